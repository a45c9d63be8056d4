// The choice of registers and clusters.
#include "impls/attnres/mix_layout.h"

#include <algorithm>

namespace attn::attnres {
namespace {

constexpr std::int64_t kWarpColumns = 32 * 8;

/// Warps of a CTA, of `ranks` that share a row.
std::int64_t warps(std::int64_t D, int ranks) {
  const std::int64_t columns = kWarpColumns * ranks;
  return (D + columns - 1) / columns;
}

bool fits(std::int64_t D, int ranks) { return 32 * warps(D, ranks) <= kHeldThreads; }

HeldLayout layout(const HeldNeeds& needs, int ranks) {
  return {.sources = held_sources(needs.N, needs.dtype),
          .ranks = ranks,
          .threads = static_cast<int>(32 * warps(needs.D, ranks))};
}

}  // namespace

int held_sources(std::int64_t N, DType dtype) {
  for (const int sources : {2, 3, 5, 9, 16}) {
    if (sources == 16 && dtype == DType::kF32) break;  // 128 registers for rows alone
    if (N <= sources) return sources;
  }
  return 0;
}

HeldLayout choose_held(const HeldNeeds& needs) {
  return fits(needs.D, 1) ? layout(needs, 1) : HeldLayout{};
}

HeldLayout choose_cluster(const HeldNeeds& needs, int sm_count) {
  if (needs.D <= kWarpColumns) return {};  // one warp has the row
  int ranks = 2;
  while (ranks < kMostRanks && !fits(needs.D, ranks)) ranks *= 2;
  const auto keeps_sms_idle = [&] { return 2 * ranks * needs.tokens <= sm_count; };
  while (ranks < kMostRanks && keeps_sms_idle() && warps(needs.D, 2 * ranks) >= 2) ranks *= 2;
  return fits(needs.D, ranks) ? layout(needs, ranks) : HeldLayout{};
}

bool prefers_cluster(const HeldNeeds& needs, int sm_count) {
  return !fits(needs.D, 1) || 2 * needs.tokens <= sm_count;
}

}  // namespace attn::attnres
