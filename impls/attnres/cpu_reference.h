// Writes an oracle's answer into the tensors of a problem: what the fp64 backends of the family do.
#pragma once

#include <span>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// The written tensors, dense, in the order of tensor_specs.
void store_reference(const Reference& reference, std::span<const TensorView> outputs);

}  // namespace attn::attnres
