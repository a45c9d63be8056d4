// What bulk_sm90 takes; the choice of cluster, warps and stages.
#include "impls/attnres_phase1_bwd/bulk_layout.h"

#include <algorithm>

#include "impls/attnres/bulk_config.h"
#include "impls/attnres/query_terms.h"
#include "impls/attnres/ranks.h"

namespace attn::attnres_phase1_bwd {
namespace {

using Problem = AttnResPhase1Bwd::Problem;

static_assert(kBlockColumns == attnres::kStepColumns, "a block is a step of the products");

constexpr int round_up(int value, int step) { return (value + step - 1) / step * step; }

/// Columns of the rank that has most.
int widest(const Problem& p, int ranks) {
  return round_up(static_cast<int>(p.D) / 8, ranks) / ranks * 8;
}

/// The layout of everything that `layout` has but its memory.
BulkMemory memory_of(const Problem& p, const BulkLayout& layout) {
  const auto N = static_cast<int>(p.N);
  const auto S = static_cast<int>(p.S);
  const int passes = WeightLanes::of(N).passes(S);
  const int width = widest(p, layout.ranks);
  BulkMemory memory;
  memory.pitch = round_up(width, kBlockColumns) * static_cast<int>(size_of(p.dtype)) + 16;
  memory.held_pitch = width * static_cast<int>(size_of(p.grad_type()));
  memory.held = (N + S) * memory.pitch;
  memory.stage_bytes = memory.held;
  for (int n = 0; n < N; ++n)
    if (p.adds_to(n)) memory.stage_bytes += memory.held_pitch;
  int end = layout.stages * memory.stage_bytes;
  const auto place = [&](int bytes) {
    const int at = end;
    end += round_up(bytes, 16);
    return at;
  };
  memory.queries = place(S * memory.pitch);
  memory.padded = round_up(N, 4);
  memory.warp_sums = (2 * S + 1) * memory.padded * 4;
  memory.sums = place(kProductWarps * memory.warp_sums);
  memory.weights = place(2 * memory.padded * 2 * layout.queries * 4);
  memory.norms = place(2 * passes * memory.padded * 4);
  memory.outputs = place(N * 16);
  const int exchanges = layout.ranks > 1 ? passes : 0;
  memory.exchange = place(exchanges * 2 * layout.ranks * kPassSums * 4);
  memory.barriers = place((2 * layout.stages + 2 + exchanges * 2) * 8);
  memory.bytes = end;
  return memory;
}

/// As many CTAs an SM as hold three stages each, or one that holds two; false where neither fits.
bool fill(const Problem& p, std::size_t available, BulkLayout& layout) {
  constexpr std::size_t kReserved = 1024;  // of every CTA, for the system
  for (layout.ctas = kSmWarps / (layout.warps + kOtherWarps); layout.ctas > 0; --layout.ctas) {
    const std::size_t budget =
        (available + kReserved) / static_cast<std::size_t>(layout.ctas) - kReserved;
    const int least = layout.ctas > 1 ? 3 : 2;
    for (layout.stages = kLayoutStages; layout.stages >= least; --layout.stages) {
      layout.memory = memory_of(p, layout);
      if (static_cast<std::size_t>(layout.memory.bytes) <= budget) return true;
    }
  }
  return false;
}

/// The largest cluster of which there is one for every token.
int least_ranks(const Problem& p, const DeviceInfo& device) {
  constexpr int kFewestColumns = 128;  // of a rank that only saves time
  int ranks = 1;
  while (ranks < attnres::kMostRanks && 2 * ranks * p.tokens() <= device.sm_count &&
         p.D >= 2 * ranks * kFewestColumns)
    ranks *= 2;
  return ranks;
}

}  // namespace

int bulk_queries(std::int64_t S) { return round_up(static_cast<int>(S), 4); }

int most_blocks(int queries) { return queries > 8 ? 2 : 4; }

BulkLayout choose_layout(const Problem& p, const DeviceInfo& device) {
  for (int ranks = least_ranks(p, device); ranks <= attnres::kMostRanks && 8 * ranks <= p.D;
       ranks *= 2) {
    const int blocks = (widest(p, ranks) + kBlockColumns - 1) / kBlockColumns;
    BulkLayout best;
    int most = 0;  // warps of an SM that have columns
    for (int share = most_blocks(bulk_queries(p.S)); share > 0; --share) {
      BulkLayout layout;
      layout.ranks = ranks;
      layout.queries = bulk_queries(p.S);
      layout.blocks = share;
      const int active = (blocks + share - 1) / share;
      layout.warps = round_up(active, 4);
      if (layout.warps > kLayoutWarps || !fill(p, device.shared_bytes_per_block, layout)) continue;
      if (layout.ctas * active > most) best = layout, most = layout.ctas * active;
    }
    if (most > 0) return best;
  }
  return {};
}

std::int64_t most_clusters(const Problem& p, const BulkLayout& layout, const DeviceInfo& device) {
  const std::int64_t ctas = std::int64_t{std::max(1, device.sm_count)} * layout.ctas;
  return std::min(p.tokens(), std::max<std::int64_t>(1, ctas / layout.ranks));
}

Support bulk_supports(const Problem& p, const DeviceInfo& device) {
  if (device.sm != 90) return Support::no("needs sm_90");
  if (size_of(p.dtype) != 2) return Support::no("dtype must be f16 or bf16");
  if (attnres::query_terms(p.query_type(), p.dtype) != 1)
    return Support::no("query_dtype must be dtype");
  if (p.out_type() != p.dtype) return Support::no("out_dtype must be dtype");
  if (p.grad_type() != p.dtype && p.grad_type() != DType::kF32)
    return Support::no("grad_dtype must be dtype or f32");
  if (p.D % 8 != 0) return Support::no("D must be a multiple of 8");
  if (p.source_stride() % 8 != 0) return Support::no("token_stride must be a multiple of 8");
  if (p.S > kLayoutQueries) return Support::no("S must be at most 16");
  if (p.N > kLayoutSources) return Support::no("N must be at most 64");
  if (choose_layout(p, device).ranks == 0)
    return Support::no("queries and two tokens' rows must fit the shared memory of eight CTAs");
  return Support::yes();
}

std::string describe(const BulkLayout& layout) {
  const std::string ranks =
      layout.ranks == 1 ? "" : std::to_string(layout.ranks) + " CTAs a cluster, ";
  return ranks + std::to_string(layout.warps) + " warps of " + std::to_string(layout.blocks) +
         (layout.blocks == 1 ? " block, " : " blocks, ") + std::to_string(layout.stages) +
         " stages";
}

}  // namespace attn::attnres_phase1_bwd
