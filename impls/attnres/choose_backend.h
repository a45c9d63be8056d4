// Who computes a call of the family's operators.
#pragma once

#include <array>
#include <stdexcept>
#include <string>
#include <string_view>

#include "harness/core/backend.h"

namespace attn::attnres {

/// Fastest first; whoever is not in a list is slower, or not of this memory.
inline constexpr std::array<std::string_view, 2> kDeviceOrder = {"bulk_sm90", "fused_simt"};
inline constexpr std::array<std::string_view, 1> kHostOrder = {"cpu_fused"};

template <class Op>
const Backend<Op>* find_backend(std::string_view id) {
  for (const BackendSlot<Op>& slot : Op::backends()) {
    if (slot.id == id) return slot.backend;
  }
  return nullptr;
}

/// The backend called `wanted` where the operator has one, else the first of the device's order that
/// takes the problem. Pure. Throws std::invalid_argument in one sentence where none does.
template <class Op>
const Backend<Op>& choose_backend(const typename Op::Problem& p,
                                  const DeviceInfo& device,
                                  std::string_view wanted) {
  if (const Backend<Op>* backend = find_backend<Op>(wanted)) {
    const MemorySpace memory = backend->info.memory;
    const Support support = memory == MemorySpace::kAny || memory == device.space
                                ? backend->supports(p, device)
                                : Support::no("the tensors are not in its memory");
    if (support) return *backend;
    throw std::invalid_argument(std::string(Op::kName) + ": " + std::string(wanted) +
                                " does not take the problem: " + support.reason);
  }
  const auto first = [&](const auto& order) -> const Backend<Op>* {
    for (const std::string_view id : order) {
      const Backend<Op>* backend = find_backend<Op>(id);
      if (backend && backend->supports(p, device)) return backend;
    }
    return nullptr;
  };
  const Backend<Op>* backend =
      device.space == MemorySpace::kDevice ? first(kDeviceOrder) : first(kHostOrder);
  if (!backend)
    throw std::invalid_argument(std::string(Op::kName) + ": no backend of this build takes " +
                                "the problem");
  return *backend;
}

}  // namespace attn::attnres
