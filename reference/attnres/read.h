// One token's read over depth in fp64, with bounds on the error of fp32 arithmetic: what the oracles of
// the family share. README.md beside this file derives the bounds.
#pragma once

#include <cstdint>
#include <vector>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// 2^-24, the rounding of one fp32 operation.
inline constexpr double kRoundoff = 0x1p-24;
/// Error of a dot product's sum, in units of the root of its summed squares (34 u, about 2e-6).
inline constexpr double kSumError = 34 * kRoundoff;

/// Where fp32 arithmetic that flushes subnormals may lose a weight altogether.
inline constexpr double kSmallest = 0x1p-126;

/// A row of D elements, exact.
using Row = std::vector<double>;

Row load_row(const TensorView& view, std::int64_t plane, std::int64_t b, std::int64_t t);
/// All rows of a matrix.
std::vector<Row> load_rows(const TensorView& view);

/// A row and how far from it fp32 may be.
struct BoundedRow {
  Row value;
  Row error;
};

/// An inner product and how far from it fp32 may be.
struct Dot {
  double value = 0;
  double error = 0;
};
Dot dot(const Row& a, const Row& b);

/// One source of a token against one query.
struct Logit {
  double value = 0;
  double error = 0;  ///< of the dot product, times r
};

/// (|v|^2 / D + eps)^(-1/2)
double reciprocal_rms(const Row& v, double eps);
Logit logit(const Row& query, const Row& v, double r);

/// The sources of one token.
struct TokenSources {
  std::vector<Row> v;     ///< [N, D]
  std::vector<double> r;  ///< [N]
};
TokenSources load_sources(const Planes& planes, const SourceProblem& p, std::int64_t t);
std::vector<Logit> logits(const Row& query, const TokenSources& sources);

/// The softmax over depth of one query.
struct Weights {
  std::vector<double> p;  ///< [N]
  double lse = 0;
  double error = 0;  ///< of the lse and of every logit: about 34 u (1 + max |logit|)
};
Weights softmax(const std::vector<Logit>& logits);

/// The gradient of every logit of one query, of an output with c[n] = <d_out, v[n]>.
struct LogitGradient {
  std::vector<double> g;      ///< [N]
  std::vector<double> error;  ///< [N]
};
LogitGradient logit_gradient(const Weights& weights, const std::vector<Dot>& c, double d_lse);

/// Stores what a token writes, output by output in the order of tensor_specs.
class TokenOutputs {
 public:
  TokenOutputs(Reference& reference, std::int64_t t) : reference_(reference), t_(t) {}

  /// The token's row of the next output.
  void row(const Row& value, const Row& error);

 private:
  Reference& reference_;
  std::int64_t t_;
  std::size_t index_ = 0;
};

/// The gradient of a query at one column, summed over tokens.
struct QuerySum {
  double value = 0;
  double drift = 0;   ///< squares of what errors of the logits' gradients make of a contribution
  double square = 0;  ///< squares of the contributions

  void add(double contribution, double error);
  /// Of other tokens.
  void add(const QuerySum& other);
  /// Errors of tokens are independent, and sums of fp32 numbers walk at random.
  double error(std::int64_t tokens) const;
};

}  // namespace attn::attnres
