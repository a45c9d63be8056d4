// The comparison of one output with its reference, on the host and on the GPU.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include "harness/core/host_device.h"

namespace attn {

/// What comparing the elements of one output gives.
struct Comparison {
  double nerr_max = 0;    ///< largest error / tolerance; infinity for a wrong NaN
  std::size_t worst = 0;  ///< the first element that has it
  double got = 0;         ///< its value,
  double expected = 0;    ///< what that should be,
  double tolerance = 0;   ///< and how far off it may be
  double squares = 0;     ///< of the errors, over the elements that are no NaN in the reference

  /// Counts element `index`, behind those before it.
  ATTN_HOST_DEVICE void add(std::size_t index, double output, double reference, double allowed);
  /// Takes in what was compared of other elements.
  ATTN_HOST_DEVICE void merge(const Comparison& other) {
    squares += other.squares;
    const bool ties = other.nerr_max == nerr_max && other.nerr_max > 0 && other.worst < worst;
    if (other.nerr_max > nerr_max || ties) {
      const double sum = squares;
      *this = other;
      squares = sum;
    }
  }
};

/// Error over tolerance; at most 1 means that the element passes.
ATTN_HOST_DEVICE inline double normalised_error(double output, double expected, double tolerance) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (std::isnan(output) || std::isnan(expected))
    return std::isnan(output) && std::isnan(expected) ? 0 : kInfinity;
  if (output == expected) return 0;
  const double error = std::abs(output - expected);
  const double ratio = error / tolerance;
  if (!(error <= tolerance)) return ratio > 1 ? ratio : kInfinity;  // NaN or zero tolerance
  return ratio;
}

ATTN_HOST_DEVICE inline void Comparison::add(std::size_t index,
                                             double output,
                                             double reference,
                                             double allowed) {
  if (!std::isnan(reference) && output != reference)
    squares += (output - reference) * (output - reference);
  const double error = normalised_error(output, reference, allowed);
  if (!(error > nerr_max)) return;
  nerr_max = error;
  worst = index;
  got = output;
  expected = reference;
  tolerance = allowed;
}

}  // namespace attn
