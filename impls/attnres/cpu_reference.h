// Writes an oracle's answer into the tensors of a problem: what the fp64 backends of the family do.
#pragma once

#include <span>
#include <vector>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// Those of an operator's tensors that a problem has.
std::vector<TensorView> present(std::vector<TensorView> views);

/// The written tensors, dense, in the order of tensor_specs.
void store_reference(const Reference& reference, std::span<const TensorView> outputs);

}  // namespace attn::attnres
