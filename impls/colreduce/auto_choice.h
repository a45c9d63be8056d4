// Which backend `auto` runs a problem with: pure functions of shape and device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "harness/core/backend.h"
#include "impls/colreduce/plain_problem.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

/// Queries of a head to reduce; of sequences that differ in length, an upper bound.
inline std::int64_t queries_to_reduce(const ColReduce::Problem& p) {
  return p.is_ragged() ? p.M : p.contributing().count();
}

/// The better one of mma_sm80 and split_k, which take the same problems. Two tiles of 128 queries an
/// SM are as fast with the keys split as without, fewer gain by it, more lose up to 2 %: none B1 M1k,
/// causal B4 M64 and none B1 M2k of suite `readme`.
inline std::string_view portable_choice(const ColReduce::Problem& p, const DeviceInfo& device) {
  const std::int64_t tiles = p.B * p.H * ((queries_to_reduce(p) + 127) / 128);
  return tiles <= 2 * std::int64_t{device.sm_count} ? "split_k" : "mma_sm80";
}

/// Whether wgmma_sm90 leaves most of its tiles of 256 queries empty: few queries whose heads share no
/// keys and hence no tile. Then split_k and mma_sm80 are faster: causal M64 N16k of suite `readme`.
inline bool leaves_tiles_empty(const ColReduce::Problem& p) {
  const bool takes_options = p.is_ragged() || p.window >= 0 || p.softcap > 0;
  return queries_to_reduce(p) <= 64 && p.key_heads() == p.H && p.combined_heads() == 1 &&
         !takes_options;
}

/// The ids of the backends to ask, best first; the last one takes what can be taken at all. None
/// stores scores in memory.
inline std::vector<std::string_view> auto_order(const ColReduce::Problem& p,
                                                const DeviceInfo& device) {
  if (device.space == MemorySpace::kHost) return {"cpu_fused"};
  std::vector<std::string_view> order = {portable_choice(p, device), "fused_simt"};
  if (device.sm != 90) return order;
  order.insert(order.begin() + (leaves_tiles_empty(p) ? 1 : 0), "wgmma_sm90");
  if (!takes_plain_rows(p)) return order;
  // Each score once, whatever a mask hides: causal squares of 1k, 4k, 8k, 16k and 32k, D = 64 and 128, and 20 to 32 heads.
  order.insert(order.begin(), queries_to_reduce(p) <= 64 ? "split_k_sm90" : "one_pass_sm90");
  return order;
}

/// The choice, or null and why the last backend of the order refuses.
struct AutoChoice {
  const Backend<ColReduce>* backend = nullptr;
  Support support = Support::no("this build has no backend for the device");
};

/// The first of the order that this build has and that takes the problem.
inline AutoChoice choose_backend(const ColReduce::Problem& p, const DeviceInfo& device) {
  AutoChoice choice;
  for (const std::string_view id : auto_order(p, device)) {
    const auto slots = ColReduce::backends();
    const auto slot =
        std::find_if(slots.begin(), slots.end(), [&](const auto& one) { return one.id == id; });
    if (!slot->backend) continue;
    choice.support = slot->backend->supports(p, device);
    if (!choice.support) continue;
    choice.backend = slot->backend;
    break;
  }
  return choice;
}

}  // namespace attn::colreduce
