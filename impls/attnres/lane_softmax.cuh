// Softmax over depth by a few lanes of a warp.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

#include "impls/common/warp_reduce.cuh"

namespace attn::attnres {

/// What exponentials of logits are relative to, and their sum.
struct DepthNormaliser {
  float largest, sum;

  __device__ float lse() const { return largest + logf(sum); }
};

/// Of one query, by an aligned group of kLanes lanes, lane `part` of which has sources part, part +
/// kLanes, ...: the weight of source n at weights[n * pitch], from its inner products dots [N] and r [N].
/// All 32 lanes of the warp take part; those without a query pass N = 0.
template <int kLanes>
__device__ inline DepthNormaliser depth_softmax_lanes(
    int N, int part, const float* dots, const float* r, float* weights, int pitch) {
  float largest = -INFINITY;
  for (int n = part; n < N; n += kLanes) largest = fmaxf(largest, dots[n] * r[n]);
  largest = warp_reduce<kLanes>(largest, Max{});
  float sum = 0;
  for (int n = part; n < N; n += kLanes) {
    const float e = expf(dots[n] * r[n] - largest);
    weights[n * pitch] = e;
    sum += e;
  }
  sum = warp_reduce<kLanes>(sum, Sum{});
  const float scale = 1.0f / sum;
  for (int n = part; n < N; n += kLanes) weights[n * pitch] *= scale;
  return {largest, sum};
}

}  // namespace attn::attnres
