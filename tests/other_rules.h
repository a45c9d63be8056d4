// How other tools decide from all samples of A followed by all samples of B: what a comparison must
// not do on a machine that drifts.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "harness/inference.h"

namespace attn {

inline constexpr double kOtherLevel = 0.05;  // of significance

/// Mann-Whitney's U-test in its normal approximation; samples without ties.
inline bool u_test_sees_a_difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<std::pair<double, bool>> all;
  for (const double t : a) all.emplace_back(t, false);
  for (const double t : b) all.emplace_back(t, true);
  std::sort(all.begin(), all.end());
  double rank_sum = 0;  // of b
  for (std::size_t i = 0; i < all.size(); ++i)
    rank_sum += all[i].second ? static_cast<double>(i + 1) : 0;
  const auto n = static_cast<double>(a.size());
  const auto m = static_cast<double>(b.size());
  const double u = rank_sum - m * (m + 1) / 2;
  const double z = (u - n * m / 2) / std::sqrt(n * m * (n + m + 1) / 12);
  return std::erfc(std::abs(z) / std::numbers::sqrt2) < kOtherLevel;
}

/// The t-interval over log(b_i / a_i) excludes 0.
inline bool interval_sees_a_difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> logs;
  for (std::size_t i = 0; i < a.size(); ++i) logs.push_back(std::log(b[i] / a[i]));
  return std::abs(mean(logs)) > test_mean(logs, 1 - kOtherLevel).half_width;
}

}  // namespace attn
