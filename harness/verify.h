// Compares a backend's output with the reference, element by element.
#pragma once

#include <cstddef>
#include <string>

#include "harness/core/operator.h"

namespace attn {

struct ErrorReport {
  bool ok = false;
  double nerr_max = 0;    ///< largest error / tolerance; infinity where NaN patterns differ
  std::size_t worst = 0;  ///< index of that element in the dense output
  std::string complaint;  ///< one sentence when not ok
};

/// `output` holds reference.size() elements of `dtype` on the host. An element passes when
/// |output - reference| <= tolerance, or when both are NaN; everything else fails.
ErrorReport compare_with_reference(const void* output,
                                   DType dtype,
                                   const AnyReference& reference,
                                   NumericsClass numerics);

}  // namespace attn
