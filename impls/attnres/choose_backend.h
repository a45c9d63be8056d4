// Who computes a call of the family's operators.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <type_traits>
#include <utility>

#include "harness/core/backend.h"
#include "reference/attnres_phase1/contract.h"

namespace attn::attnres {

/// Whether bulk_sm90 comes before fused_simt. Of phase 1 it is the faster rung for wide rows alone: README.md
/// beside this file has the times that say so.
template <class Op>
constexpr bool prefers_bulk(const typename Op::Problem& p) {
  constexpr std::int64_t kWide = 2048;
  return !std::is_same_v<Op, AttnResPhase1> || p.D > kWide;
}

/// The first of bulk_sm90 and fused_simt (or the other way round) on a device, cpu_fused on the host, that
/// takes the problem; null where none does. Pure.
template <class Op>
const Backend<Op>* choose_backend(const typename Op::Problem& p, const DeviceInfo& device) {
  std::array<std::string_view, 3> order = {"bulk_sm90", "fused_simt", "cpu_fused"};
  if (!prefers_bulk<Op>(p)) std::swap(order[0], order[1]);
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
