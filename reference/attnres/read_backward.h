// The backward of a read over depth in fp64: shared by the oracles of phase 1's backward and of the mix's.
#pragma once

#include <functional>

#include "reference/attnres/gradients.h"
#include "reference/attnres/read.h"

namespace attn::attnres {

/// The gradient of one query's output row at one token.
struct RowGradient {
  Row value;                  // [D]
  Row error;                  // [D] of fp32 arithmetic that has computed it
  std::vector<Dot> products;  // [N] with the sources
};
/// A gradient that is an input, and exact.
RowGradient given_gradient(Row dout, const TokenSources& sources);

/// The gradient of query s at token t, from its sources. Called by several threads.
using OutputGradients =
    std::function<RowGradient(std::int64_t s, std::int64_t t, const TokenSources& sources)>;

/// Gradients of sources and queries: the first outputs of `reference`.
void read_backward(const ReadGradients& p,
                   const GradientTensors& tensors,
                   const OutputGradients& gradients,
                   Reference& reference);

}  // namespace attn::attnres
