// Order statistics of kept samples; pure functions.
#pragma once

#include <cstddef>
#include <vector>

namespace attn {

/// Quantiles of a sample, none of which was deleted; `samples` keeps the order of measurement.
struct Summary {
  std::size_t n = 0;
  double min = 0, p5 = 0, p25 = 0, median = 0, p75 = 0, p95 = 0;
  double mad = 0;  ///< median absolute deviation from the median
  std::vector<double> samples;
};

/// Quantile q in [0, 1] of sorted values by linear interpolation between order statistics.
/// Throws std::invalid_argument when there are none.
double quantile(const std::vector<double>& sorted, double q);

/// Throws std::invalid_argument when `samples` is empty.
Summary summarise(std::vector<double> samples);

}  // namespace attn
