// The comparer: NaN patterns first, every element, the worst index reported.
#include "harness/verify.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

namespace attn {
namespace {

/// Error over tolerance; at most 1 means that the element passes.
double normalised_error(double output, double expected, double tolerance) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (std::isnan(output) || std::isnan(expected))
    return std::isnan(output) && std::isnan(expected) ? 0 : kInfinity;
  if (output == expected) return 0;
  const double error = std::abs(output - expected);
  if (!(error <= tolerance)) {
    const double ratio = error / tolerance;
    return ratio > 1 ? ratio : kInfinity;  // NaN or zero tolerance
  }
  return error / tolerance;
}

}  // namespace

ErrorReport compare_with_reference(const void* output,
                                   DType dtype,
                                   const AnyReference& reference,
                                   NumericsClass numerics) {
  ErrorReport report;
  for (std::size_t i = 0; i < reference.size(); ++i) {
    const double value = load_element(output, dtype, static_cast<std::int64_t>(i));
    const double error =
        normalised_error(value, reference.value(i), reference.tolerance(i, numerics));
    if (error > report.nerr_max) {
      report.nerr_max = error;
      report.worst = i;
    }
  }
  report.ok = report.nerr_max <= 1;
  if (!report.ok) {
    const double got = load_element(output, dtype, static_cast<std::int64_t>(report.worst));
    report.complaint =
        fmt::format("element {} is {:.9g}, not {:.9g} +- {:.3g}", report.worst, got,
                    reference.value(report.worst), reference.tolerance(report.worst, numerics));
  }
  return report;
}

}  // namespace attn
