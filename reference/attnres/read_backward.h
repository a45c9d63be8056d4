// The backward of a read over depth in fp64: shared by the oracles of phase 1's backward and of the mix's.
#pragma once

#include <functional>

#include "reference/attnres/gradients.h"
#include "reference/attnres/output_norm.h"

namespace attn::attnres {

/// The gradient of query s's row at token t, with its products with all sources. Called by several
/// threads.
using OutputGradients =
    std::function<RowGradient(std::int64_t s, std::int64_t t, const TokenSources& sources)>;

/// Gradients of sources and queries: the first outputs of `reference`.
void read_backward(const ReadGradients& p,
                   const GradientTensors& tensors,
                   const OutputGradients& gradients,
                   Reference& reference);

}  // namespace attn::attnres
