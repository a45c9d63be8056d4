// Compares a backend's output with the reference, element by element.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "harness/core/operator.h"

namespace attn {

/// One dense output on the host.
struct OutputView {
  std::string_view name;
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::size_t elements = 0;
};

struct ErrorReport {
  bool ok = false;
  double nerr_max = 0;     ///< largest error / tolerance; infinity where NaN patterns differ
  std::size_t output = 0;  ///< which output has that element
  std::size_t worst = 0;   ///< its index there
  std::string complaint;   ///< one sentence when not ok
};

/// The outputs hold reference.size() elements together. An element passes when
/// |output - reference| <= tolerance, or when both are NaN; everything else fails.
ErrorReport compare_with_reference(std::span<const OutputView> outputs,
                                   const AnyReference& reference,
                                   NumericsClass numerics);

/// The same where there is one output.
ErrorReport compare_with_reference(const void* output,
                                   DType dtype,
                                   const AnyReference& reference,
                                   NumericsClass numerics);

}  // namespace attn
