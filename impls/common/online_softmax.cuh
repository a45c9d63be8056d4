// The online softmax: maximum and normaliser of a row in one pass over its scores, in base 2.
// Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, algorithm 3.
#pragma once

#include <cmath>

namespace attn {

inline constexpr double kLog2E = 1.4426950408889634;

/// 2^x with relative error below 2^-22; results under 2^-126 are 0. PTX ISA: ex2.
__device__ inline float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// log2 of x with absolute error below 2^-22 (relative, away from 1); numbers under 2^-126 count as
/// 0. PTX ISA: lg2.
__device__ inline float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 1 / x with relative error below 2^-23. PTX ISA: rcp.
__device__ inline float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// Scores seen so far, as their maximum and the sum of 2^(score - max). A NaN or +inf score makes
/// the sum NaN; scores of -inf weigh nothing.
struct OnlineSoftmax {
  float max = -INFINITY;
  float sum = 0;

  /// Where exponents are measured from: finite even when every score so far is -inf.
  __device__ float origin() const { return max == -INFINITY ? 0.0f : max; }

  template <int kCount>
  __device__ void absorb(const float (&scores)[kCount]) {
    const float old_max = max;
#pragma unroll
    for (int i = 0; i < kCount; ++i) max = fmaxf(max, scores[i]);
    const float from = origin();
    sum *= exp2_approx(old_max - from);
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += exp2_approx(scores[i] - from);
  }

  __device__ void merge(const OnlineSoftmax& other) {
    const float old_max = max;
    max = fmaxf(max, other.max);
    const float from = origin();
    sum = sum * exp2_approx(old_max - from) + other.sum * exp2_approx(other.max - from);
  }

  /// Merges each aligned group of kLanes lanes; all of the group get the result, all 32 take part.
  template <int kLanes>
  __device__ void merge_lanes() {
    static_assert(kLanes > 0 && 32 % kLanes == 0, "groups tile the warp");
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
      OnlineSoftmax other;
      other.max = __shfl_xor_sync(0xffffffffu, max, distance);
      other.sum = __shfl_xor_sync(0xffffffffu, sum, distance);
      merge(other);
    }
  }

  /// log2 of the row's sum of 2^score; +inf for a row without weight, so that 2^(score - lse) is 0.
  __device__ float lse_log2() const { return sum == 0.0f ? INFINITY : max + log2f(sum); }
};

}  // namespace attn
