// Compares a backend's output with the reference, element by element.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "harness/core/operator.h"

namespace attn {

/// One dense output, where it lies.
struct OutputView {
  std::string name;
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::size_t elements = 0;
  MemorySpace space = MemorySpace::kHost;

  std::size_t bytes() const { return elements * size_of(dtype); }
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
/// that are no NaN in the reference. They are compared where the reference lies.
ErrorReport compare_with_reference(std::span<const OutputView> outputs,
                                   const AnyReference& reference,
                                   NumericsClass numerics);

/// The same where there is one output, on the host.
ErrorReport compare_with_reference(const void* output,
                                   DType dtype,
                                   const AnyReference& reference,
                                   NumericsClass numerics);

/// Whether outputs of the same problem in the same memory space are the same, bit by bit.
bool same_bits(std::span<const OutputView> a, std::span<const OutputView> b);

}  // namespace attn
