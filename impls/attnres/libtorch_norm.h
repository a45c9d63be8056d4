// The RMS norm of an output with LibTorch's operators, on fp32 rows [tokens, D].
#pragma once

#include "impls/common/libtorch_tensors.h"

namespace attn::attnres {

/// h rho gamma, of rows that have been rounded to the output's type and gamma [D].
at::Tensor torch_norm(const at::Tensor& h, const at::Tensor& gamma, double eps);

struct TorchNormGradient {
  at::Tensor dh;      ///< [tokens, D]
  at::Tensor dgamma;  ///< [D], the rows' share
};
TorchNormGradient torch_norm_backward(const at::Tensor& h,
                                      const at::Tensor& gamma,
                                      const at::Tensor& dnormed,
                                      double eps);

}  // namespace attn::attnres
