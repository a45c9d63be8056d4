// Compares a backend's output with the reference, element by element.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "harness/core/operator.h"

namespace attn {

/// One dense output on the host.
struct OutputView {
  std::string name;
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::size_t elements = 0;
};

struct ErrorReport {
  bool ok = false;
  double nerr_max = 0;  ///< largest error / tolerance, elements' or norms'; infinity for wrong NaN
  std::size_t output = 0;  ///< which output has that element
  std::size_t worst = 0;   ///< its index there
  std::string complaint;   ///< one sentence when not ok
};

/// The outputs hold reference.size() elements together. An element passes when
/// |output - reference| <= tolerance, or when both are NaN; everything else fails. Where the reference
/// bounds norms, an output fails as well when the norm of its error exceeds that, over the elements
/// that are no NaN in the reference.
ErrorReport compare_with_reference(std::span<const OutputView> outputs,
                                   const AnyReference& reference,
                                   NumericsClass numerics);

/// The same where there is one output.
ErrorReport compare_with_reference(const void* output,
                                   DType dtype,
                                   const AnyReference& reference,
                                   NumericsClass numerics);

}  // namespace attn
