// What tests of gradients share: small fp32 problems whose fp64 oracles see what a test writes, and central
// differences of a loss.
#pragma once

#include <numeric>
#include <string_view>
#include <vector>

#include "reference/attnres/contract.h"

namespace attn {

constexpr float kStep = 0x1p-14f;
constexpr double kDifferencing = 0x1p-23;  // what the step leaves of the third derivative
constexpr double kExact = 0x1p-44;         // fp64 on both sides

/// fp32 throughout: inputs are exact, and fp64 oracles see what a test writes.
template <class Problem>
Problem small(std::int64_t D) {
  Problem p;
  p.B = 2;
  p.T = 2;
  p.D = D;
  p.dtype = DType::kF32;
  return p;
}

inline double inner(const std::vector<double>& a, const double* b) {
  return std::inner_product(a.begin(), a.end(), b, 0.0);
}

/// d loss / d (one input element), by a step to both sides.
template <class Case, class Loss>
double difference(Case& c,
                  std::string_view name,
                  std::int64_t plane,
                  std::int64_t at,
                  Loss&& loss,
                  float step = kStep) {
  const float centre = c.get(name, plane, at);
  c.set(name, plane, at, centre + step);
  const double above = loss(c);
  const double upper = c.get(name, plane, at);
  c.set(name, plane, at, centre - step);
  const double below = loss(c);
  const double lower = c.get(name, plane, at);
  c.set(name, plane, at, centre);
  return (above - below) / (upper - lower);
}

/// Elements of one output of an oracle's answer.
inline std::vector<double> output_of(const attnres::Reference& reference, std::size_t output) {
  return {reference.value.begin() + static_cast<std::ptrdiff_t>(reference.begin(output)),
          reference.value.begin() + static_cast<std::ptrdiff_t>(reference.outputs[output].end)};
}

}  // namespace attn
