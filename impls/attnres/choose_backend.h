// Who computes a call of the family's operators.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "harness/core/backend.h"

namespace attn::attnres {

/// The first of bulk_sm90 and fused_simt on a device, cpu_fused on the host, that takes the problem; null
/// where none does. Pure.
template <class Op>
const Backend<Op>* choose_backend(const typename Op::Problem& p, const DeviceInfo& device) {
  constexpr std::array<std::string_view, 3> kOrder = {"bulk_sm90", "fused_simt", "cpu_fused"};
  for (const std::string_view id : kOrder) {
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
