// What the kernels share whose threads hold eight columns of every row of a token, and whose warps hold the
// rows' scalars, lane i those of row i.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "impls/attnres/columns.cuh"
#include "impls/attnres/team.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::attnres {

/// Lane i gets the sum over the warps of value i, in their order.
template <int kCount>
__device__ inline float lane_total(const float (*values)[kCount], int warps, int lane) {
  static_assert(kCount <= 32, "a lane has one value");
  const int i = std::min(lane, kCount - 1);
  float total = 0;
#pragma unroll 4
  for (int warp = 0; warp < warps; ++warp) total += values[warp][i];
  return total;
}

/// Of row i in lane i.
struct LaneWeights {
  float logit;
  float r;             ///< reciprocal RMS
  float e;             ///< exponential of the logit less the largest; 0 without a row
  float largest, sum;  ///< in every lane: of the logits, of the exponentials

  __device__ float weight() const { return e * (1.0f / sum); }
  __device__ float lse() const { return largest + logf(sum); }
};

/// The largest of the lanes' values, for a softmax's reference point: of floats as integers in the same order,
/// which a warp compares in one step. PTX ISA, "redux.sync".
__device__ inline float warp_largest(float value) {
  const auto ordered = [](int bits) { return bits ^ (bits >> 31 & 0x7fffffff); };
  return __int_as_float(ordered(__reduce_max_sync(0xffffffffu, ordered(__float_as_int(value)))));
}

/// The softmax over N <= kRows rows by a whole warp, whose lane i has the product of row i with the query in
/// `total`, and lane kRows + i its square.
template <int kRows>
__device__ inline LaneWeights lane_softmax(
    float total, int N, float inverse_width, float eps, int lane) {
  constexpr int kLanes = power_of_two(kRows);
  const float squares = __shfl_sync(0xffffffffu, total, (lane + kRows) % 32);
  const bool has_row = lane < N;
  const float r = rsqrtf(squares * inverse_width + eps);
  const float logit = has_row ? total * r : -INFINITY;
  const float largest = warp_largest(logit);
  const float e = expf(logit - largest);
  const float sum = __shfl_sync(0xffffffffu, warp_reduce<kLanes>(e, Sum{}), 0);
  return {logit, r, e, largest, sum};
}

template <class T, int kRows>
__device__ inline void forget_columns(HeldGroup<T> (&v)[kRows]) {
#pragma unroll
  for (HeldGroup<T>& row : v) row.forget_columns();
}

/// The sum of all rows, each with its lane's weight.
template <class T, int kRows>
__device__ inline void mix_rows(const HeldGroup<T> (&v)[kRows],
                                float lane_weight,
                                float (&mixed)[kColumns]) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c) mixed[c] = 0;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const float weight = __shfl_sync(0xffffffffu, lane_weight, row);
    float x[kColumns];
    v[row].columns(x);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) mixed[c] += weight * x[c];
  }
}

}  // namespace attn::attnres
