// Order statistics of kept samples.
#include "harness/statistics.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace attn {

double quantile(const std::vector<double>& sorted, double q) {
  if (sorted.empty()) throw std::invalid_argument("quantile of no samples");
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

Summary summarise(std::vector<double> samples) {
  std::vector<double> sorted = samples;
  std::sort(sorted.begin(), sorted.end());
  Summary s{.n = samples.size(),
            .min = quantile(sorted, 0),
            .p5 = quantile(sorted, 0.05),
            .p25 = quantile(sorted, 0.25),
            .median = quantile(sorted, 0.5),
            .p75 = quantile(sorted, 0.75),
            .p95 = quantile(sorted, 0.95),
            .mad = 0,
            .samples = {}};
  for (double& value : sorted) value = std::abs(value - s.median);
  std::sort(sorted.begin(), sorted.end());
  s.mad = quantile(sorted, 0.5);
  s.samples = std::move(samples);
  return s;
}

}  // namespace attn
