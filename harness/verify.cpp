// The comparer: NaN patterns first, every element, the worst index reported.
#include "harness/verify.h"

#include <fmt/format.h>

#include <algorithm>
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

ErrorReport compare_with_reference(std::span<const OutputView> outputs,
                                   const AnyReference& reference,
                                   NumericsClass numerics) {
  ErrorReport report;
  std::size_t first = 0;  // of the output, among all elements
  std::size_t worst = 0;  // among all elements
  std::string norm_complaint;
  double worst_norm = 0;
  for (std::size_t o = 0; o < outputs.size(); first += outputs[o++].elements) {
    double squares = 0;  // of the errors
    for (std::size_t i = 0; i < outputs[o].elements; ++i) {
      const double value =
          load_element(outputs[o].data, outputs[o].dtype, static_cast<std::int64_t>(i));
      const double expected = reference.value(first + i);
      if (!std::isnan(expected) && value != expected)
        squares += (value - expected) * (value - expected);
      const double error =
          normalised_error(value, expected, reference.tolerance(first + i, numerics));
      if (error > report.nerr_max) {
        report.nerr_max = error;
        report.output = o;
        report.worst = i;
        worst = first + i;
      }
    }
    const double norm = std::sqrt(squares);
    const double allowed = reference.norm_tolerance(o, numerics);
    if (const double error = normalised_error(norm, 0, allowed); error > worst_norm) {
      worst_norm = error;
      norm_complaint = fmt::format("the norm of the error of {} is {:.3g}, not below {:.3g}",
                                   outputs[o].name, norm, allowed);
    }
  }
  const bool elements_ok = report.nerr_max <= 1 && first == reference.size();
  report.ok = elements_ok && worst_norm <= 1;
  report.nerr_max = std::max(report.nerr_max, worst_norm);
  if (elements_ok && !report.ok) {
    report.complaint = norm_complaint;
  } else if (!report.ok) {
    const OutputView& output = outputs[report.output];
    const double got =
        load_element(output.data, output.dtype, static_cast<std::int64_t>(report.worst));
    report.complaint =
        fmt::format("element {}{} is {:.9g}, not {:.9g} +- {:.3g}", report.worst,
                    outputs.size() > 1 ? fmt::format(" of {}", output.name) : "", got,
                    reference.value(worst), reference.tolerance(worst, numerics));
  }
  return report;
}

ErrorReport compare_with_reference(const void* output,
                                   DType dtype,
                                   const AnyReference& reference,
                                   NumericsClass numerics) {
  const OutputView only{"", output, dtype, reference.size()};
  return compare_with_reference(std::span(&only, 1), reference, numerics);
}

}  // namespace attn
