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

ErrorReport compare_with_reference(std::span<const OutputView> outputs,
                                   const AnyReference& reference,
                                   NumericsClass numerics) {
  ErrorReport report;
  std::size_t first = 0;  // of the output, among all elements
  std::size_t worst = 0;  // among all elements
  for (std::size_t o = 0; o < outputs.size(); first += outputs[o++].elements) {
    for (std::size_t i = 0; i < outputs[o].elements; ++i) {
      const double value =
          load_element(outputs[o].data, outputs[o].dtype, static_cast<std::int64_t>(i));
      const double error = normalised_error(value, reference.value(first + i),
                                            reference.tolerance(first + i, numerics));
      if (error > report.nerr_max) {
        report.nerr_max = error;
        report.output = o;
        report.worst = i;
        worst = first + i;
      }
    }
  }
  report.ok = report.nerr_max <= 1 && first == reference.size();
  if (!report.ok) {
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
