// The RMS norm of an operator's output in fp64, and its gradient: what the oracles of the family share.
// README.md beside this file has the rule and derives the bounds.
#pragma once

#include <functional>
#include <span>

#include "reference/attnres/read.h"

namespace attn::attnres {

/// A row as its tensor holds it, rounded, and how far from it one may be that fp32 has computed and
/// rounded: 0 where every value within the bound rounds to the same number.
struct StoredRow : BoundedRow {};
/// `exact`: before it is rounded to `dtype`.
StoredRow store_row(const BoundedRow& exact, DType dtype);

struct ReciprocalRms {
  double value = 0;
  double error = 0;  ///< relative
};
ReciprocalRms reciprocal_rms(const StoredRow& h, double eps);

/// normed = h rho gamma, before it is rounded.
BoundedRow output_norm(const StoredRow& h, const Row& gamma, double eps);

/// The gradient of h, given that of normed: dh = rho g - c h with g = gamma dnormed,
/// c = rho^3 <g, h> / D.
struct NormGradient {
  StoredRow h;
  ReciprocalRms rho;
  Row dnormed;
  Row g;
  double c = 0;
  double c_error = 0;

  Dot dh(std::size_t d) const;
  /// <dh, x>, and the error of fp32 that sums <g, x> and <h, x>, or their difference.
  Dot product(const Row& x) const;
  /// What a token gives the weight: dnormed h rho.
  Dot dgamma(std::size_t d) const;
};
NormGradient norm_gradient(StoredRow h, const Row& gamma, Row dnormed, double eps);

/// The gradient of one output row at one token.
struct RowGradient : BoundedRow {
  std::vector<Dot> products;  // with every row that the output mixes, or with their difference
};
/// A gradient that is an input, and exact; `rows`: what it is multiplied with.
RowGradient given_gradient(Row dout, std::span<const Row> rows);
/// That of a row whose norm is written: dout, zeros where the row is not written itself, and what comes
/// through the norm.
RowGradient through_norm(const NormGradient& norm, Row dout, std::span<const Row> rows);

/// The gradient of the norm's weight, the last output of `reference`: chunks of tokens in parallel, then
/// in order. `held`: the tensor that it is written or added to.
void store_weight_gradient(std::int64_t tokens,
                           const std::function<NormGradient(std::int64_t t)>& token_norm,
                           const TensorView& held,
                           Store store,
                           Reference& reference);

}  // namespace attn::attnres
