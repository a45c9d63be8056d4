// Intervals, p-values and sweeps of them; pure functions.
#pragma once

#include <cstddef>
#include <vector>

namespace attn {

double mean(const std::vector<double>& values);
/// Of the mean, from the sample's own variance. Needs two values or more.
double standard_error(const std::vector<double>& values);

/// P(|T| > |t|) of Student's t with `degrees` of freedom.
double two_sided_p(double t, double degrees);
/// The t with two_sided_p(t) == p, p in (0, 1).
double critical_t(double p, double degrees);

/// A mean's interval and the p-value of a true mean of 0, both from Student's t.
struct MeanTest {
  double half_width = 0;  ///< infinite for fewer than two values
  double p = 1;
};
MeanTest test_mean(const std::vector<double>& values, double confidence);

/// Which hypotheses are rejected at false discovery rate `rate`.
/// Source: Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995).
std::vector<bool> benjamini_hochberg(const std::vector<double>& p_values, double rate);

struct Interval {
  double low = 0;
  double high = 0;
};
/// Percentile bootstrap of the mean, resampling the values. Deterministic.
Interval bootstrap_mean(const std::vector<double>& values, double confidence);

}  // namespace attn
