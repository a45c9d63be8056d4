// Who computes a call of the family's operators.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <type_traits>
#include <utility>

#include "harness/core/backend.h"
#include "impls/attnres/mix_layout.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_phase1/contract.h"

namespace attn::attnres {

/// The rung of the operator's ladder that sm_90 alone has.
template <class Op>
inline constexpr std::string_view kSm90Rung =
    std::is_same_v<Op, AttnResMix> ? "cluster_sm90" : "bulk_sm90";

/// Whether it comes before fused_simt. Of phase 1 fused_simt is the faster rung for narrow rows and few queries:
/// README.md beside this file has the times that say so.
template <class Op>
bool prefers_sm90_rung(const typename Op::Problem& p, const DeviceInfo& device) {
  if constexpr (std::is_same_v<Op, AttnResMix>) {
    return prefers_cluster(held_needs(p), device.sm_count);
  } else if constexpr (std::is_same_v<Op, AttnResPhase1>) {
    return p.D > 2048 || (p.D > 1024 && p.S >= 4);
  } else {
    return true;
  }
}

/// The first of the rung of sm_90 and fused_simt (or the other way round) on a device, cpu_fused on the
/// host, that takes the problem; null where none does. Pure.
template <class Op>
const Backend<Op>* choose_backend(const typename Op::Problem& p, const DeviceInfo& device) {
  std::array<std::string_view, 3> order = {kSm90Rung<Op>, "fused_simt", "cpu_fused"};
  if (!prefers_sm90_rung<Op>(p, device)) std::swap(order[0], order[1]);
  for (const std::string_view id : order) {
    const auto slots = Op::backends();
    const auto slot = std::find_if(slots.begin(), slots.end(),
                                   [id](const BackendSlot<Op>& one) { return one.id == id; });
    if (slot == slots.end() || !slot->backend) continue;
    const Backend<Op>& backend = *slot->backend;
    if (backend.info.memory == device.space && backend.supports(p, device)) return &backend;
  }
  return nullptr;
}

}  // namespace attn::attnres
