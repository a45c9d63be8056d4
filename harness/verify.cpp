// The comparer: NaN patterns first, every element, the worst index reported.
#include "harness/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "harness/buffer.h"
#include "harness/comparison.h"
#include "harness/gpu.h"

namespace attn {
namespace {

/// An output's elements with those of the reference from `first` on, on the host.
Comparison compare_on_host(const OutputView& output,
                           const AnyReference& reference,
                           std::size_t first,
                           NumericsClass numerics) {
  if (output.space == MemorySpace::kDevice) {
    std::vector<std::byte> copy(output.bytes());
    gpu::copy_to_host(copy.data(), output.data, copy.size());
    const OutputView here{output.name, copy.data(), output.dtype, output.elements};
    return compare_on_host(here, reference, first, numerics);
  }
  Comparison result;
  for (std::size_t i = 0; i < output.elements; ++i)
    result.add(i, load_element(output.data, output.dtype, static_cast<std::int64_t>(i)),
               reference.value(first + i), reference.tolerance(first + i, numerics));
  return result;
}

/// The same on the GPU, where the reference lies.
Comparison compare_on_device(const OutputView& output,
                             DeviceAnswer answer,
                             std::size_t first,
                             NumericsClass numerics) {
  if (output.space != MemorySpace::kDevice) {
    const Buffer copy(MemorySpace::kDevice, output.bytes());
    gpu::copy_to_device(copy.data(), output.data, output.bytes());
    const OutputView there{output.name, copy.data(), output.dtype, output.elements,
                           MemorySpace::kDevice};
    return compare_on_device(there, answer, first, numerics);
  }
  answer = {answer.value + first, numerics == NumericsClass::kFp64 ? nullptr : answer.error + first,
            output.elements};
  return gpu::compare(output.data, output.dtype, answer);
}

}  // namespace

ErrorReport compare_with_reference(std::span<const OutputView> outputs,
                                   const AnyReference& reference,
                                   NumericsClass numerics) {
  ErrorReport report;
  Comparison worst;
  std::size_t first = 0;  // of the output, among all elements
  std::string norm_complaint;
  double worst_norm = 0;
  const DeviceAnswer on_device = reference.on_device();
  for (std::size_t o = 0; o < outputs.size(); first += outputs[o++].elements) {
    if (first + outputs[o].elements > reference.size()) break;  // no such output: not ok below
    const Comparison one = on_device.value
                               ? compare_on_device(outputs[o], on_device, first, numerics)
                               : compare_on_host(outputs[o], reference, first, numerics);
    if (one.nerr_max > worst.nerr_max) {
      worst = one;
      report.output = o;
    }
    const double norm = std::sqrt(one.squares);
    const double allowed = reference.norm_tolerance(o, numerics);
    if (const double error = normalised_error(norm, 0, allowed); error > worst_norm) {
      worst_norm = error;
      norm_complaint = fmt::format("the norm of the error of {} is {:.3g}, not below {:.3g}",
                                   outputs[o].name, norm, allowed);
    }
  }
  report.worst = worst.worst;
  const bool elements_ok = worst.nerr_max <= 1 && first == reference.size();
  report.ok = elements_ok && worst_norm <= 1;
  report.nerr_max = std::max(worst.nerr_max, worst_norm);
  if (elements_ok && !report.ok) {
    report.complaint = norm_complaint;
  } else if (!report.ok) {
    report.complaint =
        fmt::format("element {}{} is {:.9g}, not {:.9g} +- {:.3g}", worst.worst,
                    outputs.size() > 1 ? fmt::format(" of {}", outputs[report.output].name) : "",
                    worst.got, worst.expected, worst.tolerance);
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

bool same_bits(std::span<const OutputView> a, std::span<const OutputView> b) {
  const auto same = [](const OutputView& one, const OutputView& other) {
    return one.space == MemorySpace::kDevice ? gpu::same_bits(one.data, other.data, one.bytes())
                                             : std::memcmp(one.data, other.data, one.bytes()) == 0;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

}  // namespace attn
