// A team: the warps of a CTA that work on one token. Sums over its threads, many at a time.
#pragma once

#include <cuda_runtime.h>

namespace attn::attnres {

/// Where a thread stands.
struct Team {
  int index;  ///< of the team in its CTA
  int warps;  ///< of the team
  int warp;   ///< of the thread in its team
  int lane;
  int thread;  ///< in the team

  __device__ int threads() const { return warps * 32; }
  __device__ static Team of(int thread_in_cta, int team_warps) {
    const int warp = thread_in_cta / 32;
    const int index = warp / team_warps;
    return {index, team_warps, warp % team_warps, thread_in_cta % 32,
            thread_in_cta - index * team_warps * 32};
  }
  /// All threads of the team arrive and wait; what each wrote before is visible to all after. Teams of
  /// several warps have a named barrier of their own (PTX ISA, "bar{.cta}"): 0 is the CTA's.
  __device__ void sync() const {
    if (warps == 1) {
      __syncwarp();
    } else {
      asm volatile("bar.sync %0, %1;" ::"r"(index + 1), "r"(warps * 32) : "memory");
    }
  }
};

/// The smallest power of two that is at least `count`.
constexpr int power_of_two(int count) {
  int power = 1;
  while (power < count) power *= 2;
  return power;
}

/// Sums each of kCount values, a power of two up to 32, over the warp; lane i returns the sum of value
/// i * kCount / 32. Every step adds half as many values as the one before: kCount - 1 shuffles and
/// log2(32 / kCount) more, where one value at a time would take 5 kCount. The order is fixed.
template <int kCount, int kDistance = 16>
__device__ inline float warp_sums(float* values, int lane) {
  static_assert(kCount >= 1 && kCount <= 32, "a lane returns one sum");
  if constexpr (kCount == 1) {
    float sum = values[0];
#pragma unroll
    for (int distance = kDistance; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    return sum;
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = (lane & kDistance) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float keep = upper ? values[i + kHalf] : values[i];
      const float send = upper ? values[i] : values[i + kHalf];
      values[i] = keep + __shfl_xor_sync(0xffffffffu, send, kDistance);
    }
    return warp_sums<kHalf, kDistance / 2>(values, lane);
  }
}

/// Calls give(i, sum) with the sum over the warp of value i, of kCount <= 32 values, by one lane each.
template <int kCount, class Give>
__device__ inline void give_warp_sums(const float (&values)[kCount], int lane, Give&& give) {
  constexpr int kPadded = power_of_two(kCount);
  constexpr int kLanes = 32 / kPadded;  // that return the same sum
  float padded[kPadded] = {};
#pragma unroll
  for (int i = 0; i < kCount; ++i) padded[i] = values[i];
  const float sum = warp_sums<kPadded>(padded, lane);
  const int index = lane / kLanes;
  if (lane % kLanes == 0 && index < kCount) give(index, sum);
}

/// Stores them: to[at(i)] for value i.
template <int kCount, class At>
__device__ inline void store_warp_sums(const float (&values)[kCount],
                                       int lane,
                                       float* to,
                                       At&& at) {
  give_warp_sums(values, lane, [&](int i, float sum) { to[at(i)] = sum; });
}

/// totals[i] = the sum over the team's warps of partials[warp * count + i], in order; every warp
/// computes all of them, into memory of its own.
__device__ inline void add_partials(const Team& team,
                                    const float* partials,
                                    int count,
                                    float* totals) {
  for (int i = team.lane; i < count; i += 32) {
    float sum = partials[i];
    for (int warp = 1; warp < team.warps; ++warp) sum += partials[warp * count + i];
    totals[i] = sum;
  }
  __syncwarp();
}

}  // namespace attn::attnres
