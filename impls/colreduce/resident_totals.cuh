// A row's sum over the CTAs of a team as one 64-bit integer that each adds its part to.
#pragma once

#include <cstdint>

#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {

/// The sum in fixed point, and above it the number of ranks that have added their parts. Integers add up to the
/// same in any order. All ranks know from an earlier tile what to expect, log2 of a sum, and read the same
/// total: they agree on whether it is exact enough, the roundings of 132 ranks below 2^-15 of it.
struct RowTotals {
  static constexpr int kCountBit = 56;
  static constexpr int kPoint =
      44;  ///< a sum that is as expected, 2^expected, is this power of two
  static constexpr int kLeastBit = 22;
  static constexpr int kMostBit = 48;  ///< 132 parts that are less do not reach the count
  /// Sums in so many binades below the expected one are exact enough.
  static constexpr float kRange = kPoint - kLeastBit - 1;

  /// What a rank adds for sum * 2^origin. What is too large, or NaN, makes the total too large.
  __device__ static std::uint64_t part(float sum, float origin, float expected) {
    const float scaled = sum * exp2_approx(origin - expected + kPoint);
    const float most = static_cast<float>(std::uint64_t{1} << kMostBit);
    return __float2ull_rn(fminf(scaled, most)) + (std::uint64_t{1} << kCountBit);  // most for NaN
  }
  __device__ static bool complete(std::uint64_t total, int ranks) {
    return static_cast<int>(total >> kCountBit) == ranks;
  }
  __device__ static std::uint64_t value(std::uint64_t total) {
    return total & ((std::uint64_t{1} << kCountBit) - 1);
  }
  /// Whether a complete total is neither so small that roundings count nor too large.
  __device__ static bool exact(std::uint64_t total) {
    return value(total) >> kLeastBit != 0 && value(total) >> kMostBit == 0;
  }
  /// As a multiple of 2^expected.
  __device__ static float sum(std::uint64_t total) {
    return __ull2float_rn(value(total)) * (1.0f / static_cast<float>(std::uint64_t{1} << kPoint));
  }
};

}  // namespace attn::colreduce
