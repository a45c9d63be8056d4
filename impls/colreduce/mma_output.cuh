// What both second passes do with a key's weights: combine them, finish them, store them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "impls/colreduce/mma_sm80.h"
#include "impls/common/online_softmax.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {

/// Sums of weights, or largest exponents. NaN stays NaN in both.
template <bool kMax>
__device__ inline float combine_columns(float a, float b) {
  return kMax ? MaxOrNan{}(a, b) : a + b;
}

/// out[head, n] of a column's sum or maximum of weights: over its divisor for a mean; rounded once,
/// to the output's type. Arguments has the members mask, divisor, out and out_dtype.
template <class Arguments>
__device__ inline void store_reduced(const Arguments& args,
                                     std::uint32_t head,
                                     int n,
                                     float whole) {
  if (args.divisor != Divisor::kOne) {
    const std::int64_t hidden =
        args.divisor == Divisor::kVisible ? args.mask.query_begin(n) : std::int64_t{0};
    whole /= static_cast<float>(max(args.mask.M - hidden, std::int64_t{1}));
  }
  const std::int64_t index = head * args.mask.N + n;
  if (args.out_dtype == DType::kF32) {
    static_cast<float*>(args.out)[index] = whole;
  } else if (args.out_dtype == DType::kF16) {
    static_cast<__half*>(args.out)[index] = __float2half_rn(whole);
  } else {
    static_cast<__nv_bfloat16*>(args.out)[index] = __float2bfloat16_rn(whole);
  }
}

/// The same of a sum of weights or of the largest exponent (base 2).
template <bool kMax, class Arguments>
__device__ inline void store_column(const Arguments& args, std::uint32_t head, int n, float whole) {
  store_reduced(args, head, n, kMax ? exp2_approx(whole) : whole);
}

}  // namespace attn::colreduce
