// An output with its RMS norm, and their gradient, with LibTorch's operators on a chunk of tokens in fp32.
#pragma once

#include "impls/attnres/libtorch_read.h"

namespace attn::attnres {

/// Stores the rows `mixed` [tokens, D] and their norms, as far as they are outputs. The norm is that of
/// the rounded rows.
void torch_store_output(const NormFields& p,
                        const TokenChunk& rows,
                        const at::Tensor& mixed,
                        const TensorView& out,
                        const TensorView& normed,
                        const TensorView& gamma);

/// The gradient of those rows: what has come in for them, and what comes through their norms, which also
/// adds the chunk's share to dgamma. `mixed`: the rows before they were rounded, where there is a norm.
at::Tensor torch_output_gradient(const NormFields& p,
                                 const TokenChunk& rows,
                                 const at::Tensor& mixed,
                                 const TensorView& dout,
                                 const TensorView& dnormed,
                                 const TensorView& gamma,
                                 const TensorView& dgamma);

}  // namespace attn::attnres
