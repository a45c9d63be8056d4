// A team: the warps of a CTA that work on one token. Sums over its threads, many at a time.
#pragma once

#include <cuda_runtime.h>

#include <bit>

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

/// `value`, found before what follows: the compiler would move it to its use, where others wait for it.
__device__ inline int computed_here(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// The smallest power of two that is at least `count`.
constexpr int power_of_two(int count) {
  int power = 1;
  while (power < count) power *= 2;
  return power;
}

/// Sums each of kCount <= 32 values over the warp. Every step adds half as many values as the one before, of
/// which half of the lanes keep the lower and half the upper ones; an odd one stays with both. Of 18 values
/// that is 20 shuffles, where one value at a time would take 90. The order is fixed.
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
    constexpr int kPairs = kCount / 2;
    constexpr int kKept = kCount - kPairs;
    const bool upper = (lane & kDistance) != 0;
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const int other = i < kPairs ? i + kKept : i;
      const float keep = upper ? values[other] : values[i];
      const float send = upper ? values[i] : values[other];
      values[i] = keep + __shfl_xor_sync(0xffffffffu, send, kDistance);
    }
    return warp_sums<kKept, kDistance / 2>(values, lane);
  }
}

/// The value whose sum warp_sums returns in this lane.
template <int kCount>
__device__ inline int value_of_lane(int lane) {
  int first = 0;
  int kept = kCount;
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    const int pairs = kept / 2;
    kept -= pairs;
    if (pairs > 0 && (lane & distance) != 0) first += kept;
  }
  return first;
}

/// A bit for every lane that is the first to return its value's sum.
template <int kCount>
constexpr unsigned first_lanes() {
  unsigned lanes = 0;
  for (int lane = 0; lane < 32; ++lane) {
    bool first = true;
    int kept = kCount;  // at most, of all lanes
    int own = kCount;   // values that this lane still sums
    for (int distance = 16; distance > 0; distance /= 2) {
      const int pairs = kept / 2;
      kept -= pairs;
      const bool upper = (lane & distance) != 0;
      own = upper ? own - kept : own < kept ? own : kept;
      first = first && own > 0;
    }
    if (first) lanes |= 1u << lane;
  }
  return lanes;
}

/// Calls give(i, sum) with the sum over the warp of value i, of kCount <= 32 values, by one lane each.
template <int kCount, class Give>
__device__ inline void give_warp_sums(const float (&values)[kCount], int lane, Give&& give) {
  float sums[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[i] = values[i];
  constexpr unsigned kGiving = first_lanes<kCount>();
  static_assert(std::popcount(kGiving) == kCount, "every sum is given once");
  const int gives = computed_here(static_cast<int>(kGiving >> lane & 1));
  const int value = computed_here(value_of_lane<kCount>(lane));
  const float sum = warp_sums<kCount>(sums, lane);
  if (gives != 0) give(value, sum);
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
