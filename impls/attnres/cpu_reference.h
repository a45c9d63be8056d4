// The fp64 oracles of the family as backends: slow and obvious.
#pragma once

#include <span>
#include <vector>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// Those of an operator's tensors that a problem has.
std::vector<TensorView> present(std::vector<TensorView> views);

/// The written tensors, dense, in the order of tensor_specs.
void store_reference(const Reference& reference, std::span<const TensorView> outputs);

/// The backend of that name that stores what Op's oracle says in `kOutputs`(problem, tensors), the written
/// tensors in the order of tensor_specs.
template <class Op, auto kOutputs>
constexpr Backend<Op> reference_backend(BackendInfo info) {
  using Problem = typename Op::Problem;
  using Tensors = typename Op::Tensors;
  info.memory = MemorySpace::kHost;
  info.numerics = NumericsClass::kFp64;
  return {.info = info,
          .plan = [](const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
            Launch launch;
            launch.enqueue = [p, t](Stream) { store_reference(Op::oracle(p, t), kOutputs(p, t)); };
            return launch;
          }};
}

}  // namespace attn::attnres
