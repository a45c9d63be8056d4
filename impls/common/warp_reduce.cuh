// Reductions over the lanes of a warp and the warps of a CTA, in a fixed order: bitwise repeatable.
#pragma once

namespace attn {

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

/// The larger value, ignoring NaN: for a softmax's reference point.
struct Max {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// The larger value; NaN if either is.
struct MaxOrNan {
  __device__ float operator()(float a, float b) const {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));  // PTX ISA: max, since sm_80
    return larger;
  }
};

/// Combines the values of each aligned group of kLanes lanes; every lane of the group gets the
/// result. All 32 lanes take part.
template <int kLanes, class Combine>
__device__ inline float warp_reduce(float value, Combine combine) {
  static_assert(kLanes > 0 && 32 % kLanes == 0, "groups tile the warp");
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

/// The same over kWarps whole warps, for every thread. `scratch` holds kWarps floats of shared
/// memory and may be reused by the next call; all threads of the CTA take part.
template <int kWarps, class Combine>
__device__ inline float cta_reduce(float value, Combine combine, float* scratch, int thread) {
  value = warp_reduce<32>(value, combine);
  if constexpr (kWarps > 1) {
    __syncthreads();  // all threads: earlier readers of scratch are done
    if (thread % 32 == 0) scratch[thread / 32] = value;
    __syncthreads();  // all threads: every warp's value is visible
    value = scratch[0];
    for (int warp = 1; warp < kWarps; ++warp) value = combine(value, scratch[warp]);
  }
  return value;
}

}  // namespace attn
