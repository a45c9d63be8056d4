// An output row with its RMS norm, and their gradient, in fp32 on a CPU.
#pragma once

#include <cstdint>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// Stores a row of token t and its norm, as far as they are outputs: `out` and `normed` [tokens, D]. The
/// norm is that of the rounded row. `row` [D] is scratch afterwards.
void store_output(const NormFields& p,
                  const TensorView& out,
                  const TensorView& normed,
                  const float* gamma,
                  std::int64_t t,
                  float* row);

/// Loads the gradient of that row into dout [D]: what has come in for it, and what comes through its norm,
/// which also adds the token's share to dgamma [D]. `row` [D]: the row before it was rounded, where there
/// is a norm; scratch afterwards.
void load_output_gradient(const NormFields& p,
                          const TensorView& given,
                          const TensorView& dnormed,
                          const float* gamma,
                          std::int64_t t,
                          float* row,
                          float* dout,
                          float* dgamma);

}  // namespace attn::attnres
