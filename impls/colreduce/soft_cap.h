// The soft cap of scores, c tanh(s / c), without the branches of tanhf where scores are small against the cap.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "harness/core/host_device.h"

namespace attn::colreduce {

/// cap * tanh(scale * s) of dot products s, with the cap in base 2.
struct SoftCap {
  /// Terms of tanh(x) / x in powers of x^2, for |x| < 1/2: relative error 2e-8 (minimax, by Lawson's iteration),
  /// 1.2e-7 as evaluated in fp32, about what tanhf has.
  static constexpr std::array<double, 5> kTerms{1.00000000, -0.33333069, 0.13324779, -0.05298607,
                                                0.01713501};
  /// Arguments x are held as 4 x: whose bit 30 is set where |x| >= 1/2, and in inf and NaN.
  static constexpr int kTimes = 4;

  float cap = 0;                             ///< 0: none, and scores stay as they are
  float scale = 0;                           ///< of dot products: to kTimes x
  std::array<float, kTerms.size()> terms{};  ///< of cap * tanh(x), in powers of kTimes x

  static constexpr SoftCap of(double cap, double scale) {
    SoftCap made{static_cast<float>(cap), static_cast<float>(kTimes * scale), {}};
    double power = cap / kTimes;
    for (std::size_t i = 0; i < kTerms.size(); ++i, power /= kTimes * kTimes)
      made.terms[i] = static_cast<float>(power * kTerms[i]);
    return made;
  }

  ATTN_HOST_DEVICE constexpr bool exists() const { return cap != 0; }

  /// Whether `small` takes numbers that are kTimes x; of their bits, or-ed.
  ATTN_HOST_DEVICE static constexpr bool are_small(std::uint32_t bits) {
    return (bits >> 30 & 1) == 0;
  }
  ATTN_HOST_DEVICE float small(float times_x) const {
    const float square = times_x * times_x;
    float sum = terms[kTerms.size() - 1];
    for (int i = static_cast<int>(kTerms.size()) - 2; i >= 0; --i)
      sum = fmaf(sum, square, terms[static_cast<std::size_t>(i)]);
    return times_x * sum;
  }
  ATTN_HOST_DEVICE float any(float times_x) const { return cap * tanhf(times_x / kTimes); }
};

}  // namespace attn::colreduce
