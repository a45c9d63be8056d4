// The RMS norm of an operator's output in fp64, and its gradient: what the oracles of the family share.
// README.md beside this file has the rule and derives the bounds.
#pragma once

#include "reference/attnres/read.h"

namespace attn::attnres {

/// A row as its tensor holds it, and how far from it one may be that fp32 has computed and rounded.
struct StoredRow {
  Row value;  ///< rounded to the type
  Row error;  ///< 0 where every value within the bound rounds to the same number
};
/// `bound` is of fp32 arithmetic before it rounds to `dtype`.
StoredRow store_row(const Row& exact, const Row& bound, DType dtype);

struct ReciprocalRms {
  double value = 0;
  double error = 0;  ///< relative
};
ReciprocalRms reciprocal_rms(const StoredRow& h, double eps);

/// normed = h rho gamma, before it is rounded.
struct NormedRow {
  Row value;
  Row error;
};
NormedRow output_norm(const StoredRow& h, const Row& gamma, double eps);

/// The gradient of h, given that of normed: dh = rho g - c h with g = gamma dnormed,
/// c = rho^3 <g, h> / D.
struct NormGradient {
  StoredRow h;
  ReciprocalRms rho;
  Row g;
  double c = 0;
  double c_error = 0;

  Dot dh(std::size_t d) const;
  /// <dh, x>, and the error of fp32 that sums <g, x> and <h, x>, or their difference.
  Dot product(const Row& x) const;
};
NormGradient norm_gradient(StoredRow h, const Row& gamma, const Row& dnormed, double eps);

}  // namespace attn::attnres
