// Student's t by the incomplete beta function, Benjamini-Hochberg, the bootstrap.
#include "harness/inference.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "harness/philox.h"
#include "harness/statistics.h"

namespace attn {
namespace {

/// Continued fraction of the incomplete beta function, by Lentz's method (DLMF 8.17.22).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto safe = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1;
  double d = 1 / safe(1 - (a + b) * x / (a + 1));
  double result = d;
  for (int m = 1; m < 500; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double change = 1;
    for (const double coefficient : {even, odd}) {
      d = 1 / safe(1 + coefficient * d);
      c = safe(1 + coefficient / c);
      change *= c * d;
    }
    result *= change;
    if (std::abs(change - 1) < std::numeric_limits<double>::epsilon()) break;
  }
  return result;
}

/// Regularised incomplete beta function I_x(a, b).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                   : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

}  // namespace

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_error(const std::vector<double>& values) {
  const double center = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - center) * (value - center);
  const auto n = static_cast<double>(values.size());
  return std::sqrt(squares / (n - 1) / n);
}

double two_sided_p(double t, double degrees) {
  return incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
}

double critical_t(double p, double degrees) {
  double low = 0;
  double high = 1;
  while (two_sided_p(high, degrees) > p) high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (two_sided_p(middle, degrees) > p ? low : high) = middle;
  }
  return (low + high) / 2;
}

MeanTest test_mean(const std::vector<double>& values, double confidence) {
  if (values.size() < 2) return {.half_width = std::numeric_limits<double>::infinity(), .p = 1};
  const auto degrees = static_cast<double>(values.size() - 1);
  const double error = standard_error(values);
  const double center = mean(values);
  const double p = error > 0 ? two_sided_p(center / error, degrees) : (center == 0 ? 1 : 0);
  return {.half_width = critical_t(1 - confidence, degrees) * error, .p = p};
}

std::vector<bool> benjamini_hochberg(const std::vector<double>& p_values, double rate) {
  std::vector<double> sorted = p_values;
  std::sort(sorted.begin(), sorted.end());
  double threshold = -1;  // the largest p(i) that is at most i / n * rate
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (sorted[i] <= rate * static_cast<double>(i + 1) / static_cast<double>(sorted.size()))
      threshold = sorted[i];
  }
  std::vector<bool> rejected;
  rejected.reserve(p_values.size());
  for (const double p : p_values) rejected.push_back(p <= threshold);
  return rejected;
}

Interval bootstrap_mean(const std::vector<double>& values, double confidence) {
  constexpr std::uint64_t kResamples = 4000;
  std::vector<double> means;
  means.reserve(kResamples);
  for (std::uint64_t resample = 0; resample < kResamples; ++resample) {
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      sum += values[philox(i, resample, 0).word[0] % values.size()];
    means.push_back(sum / static_cast<double>(values.size()));
  }
  std::sort(means.begin(), means.end());
  return {quantile(means, (1 - confidence) / 2), quantile(means, (1 + confidence) / 2)};
}

}  // namespace attn
