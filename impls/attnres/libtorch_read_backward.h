// The backward of a read over depth with LibTorch's operators, on a chunk of tokens in fp32.
#pragma once

#include "impls/attnres/libtorch_read.h"
#include "reference/attnres/gradients.h"

namespace attn::attnres {

/// Zeros in a gradient that is written: chunks are added to it.
void clear_written(const TensorView& gradient, Store store, MemorySpace space);

/// Stores the gradients of the sources of tokens from `first` on, and adds to that of the queries wt
/// [S, D]. `dout` [tokens, S, D] in fp32.
void torch_read_backward(const ReadGradients& p,
                         const GradientTensors& t,
                         const TorchRead& read,
                         const at::Tensor& wt,
                         const at::Tensor& dout,
                         std::int64_t first,
                         MemorySpace space);

}  // namespace attn::attnres
