// How tensors of attention residuals become the contract's problems.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "python/csrc/libtorch_call.h"
#include "reference/attnres/contract.h"

namespace attn {

/// The tensor as backends take it; copied where it is not.
inline at::Tensor dense(const at::Tensor& tensor) { return loadable(tensor.contiguous()); }

/// Sizes and types of planes [..., D], all of whose leading axes are tokens, and of queries.
inline void describe(attnres::TokenProblem& p,
                     const at::Tensor& plane,
                     at::ScalarType query_type,
                     double eps) {
  const at::IntArrayRef sizes = plane.sizes();
  p.D = sizes.back();
  p.T = 1;
  for (const std::int64_t size : sizes.slice(0, sizes.size() - 1)) p.T *= size;
  p.dtype = *dtype_of(plane.scalar_type());
  p.query_dtype = query_type == at::kHalf       ? attnres::TypeChoice::kF16
                  : query_type == at::kBFloat16 ? attnres::TypeChoice::kBF16
                                                : attnres::TypeChoice::kF32;
  p.eps = eps;
}

}  // namespace attn
