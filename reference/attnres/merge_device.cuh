// A merge's weights and gradients in fp64 on the GPU: the definitions of merge.h, on other code.
#pragma once

#include <cmath>
#include <cstdint>

#include "reference/attnres/merge.h"
#include "reference/attnres/oracle_device.cuh"

namespace attn::attnres::device {

/// `error` is of l - z.
__device__ inline PairWeights pair_weights(double z, double l, double error) {
  PairWeights weights;
  weights.a = 1 / (1 + exp(z - l));
  weights.other = 1 / (1 + exp(l - z));
  weights.lse = fmax(z, l) + log1p(exp(-fabs(z - l)));
  weights.error = error;
  return weights;
}

/// Of two reads, whose normalisers are exact fp32 numbers.
__device__ inline PairWeights pair_weights(double z, double l) {
  return pair_weights(z, l, 8 * kRoundoff * (1 + fabs(l - z)));
}

/// other x + a y
__device__ inline Dot mixed(const PairWeights& weights, double x, double y) {
  const double both = weights.a * weights.other;
  return {weights.other * x + weights.a * y,
          weights.error * both * fabs(y - x) +
              8 * kRoundoff * (weights.a * fabs(y) + weights.other * fabs(x)) +
              kSmallest * (fabs(y) + fabs(x))};
}

/// What a dout element gives to the side of weight `own`.
__device__ inline Dot share(const PairWeights& weights, double own, double dout) {
  return {own * dout,
          (weights.error * (1 - own) + 8 * kRoundoff) * fabs(own * dout) + kSmallest * fabs(dout)};
}

/// Gradients of the two normalisers, of c = <dout, y - x>.
__device__ inline PairGradient pair_gradient(const PairWeights& weights,
                                             const Dot& c,
                                             double dlse) {
  const double both = weights.a * weights.other;
  const double q = both * c.value;
  const double error = both * c.error + 2 * weights.error * fabs(q) + 8 * kRoundoff * fabs(q) +
                       (weights.error * both + 4 * kRoundoff + kSmallest) * fabs(dlse) +
                       kSmallest * fabs(c.value);
  PairGradient gradient;
  gradient.dl = {q + weights.a * dlse, error};
  gradient.dz = {-q + weights.other * dlse, error};
  return gradient;
}

/// The merge of the query wt(d), the partial sum b(d) and the normaliser z, by a warp. All lanes take
/// part.
template <class Query, class Partial>
__device__ Merge warp_merge(std::int64_t D, double eps, Query&& wt, Partial&& b, double z) {
  const double r = warp_reciprocal_rms(D, eps, b);
  const Logit own = logit_of(warp_dot(D, wt, b), r);
  const double error = own.error + kSumError * (1 + fabs(own.value)) + 8 * kRoundoff * fabs(z);
  Merge merged;
  static_cast<PairWeights&>(merged) = pair_weights(z, own.value, error);
  merged.r = r;
  merged.l = own.value;
  return merged;
}

}  // namespace attn::attnres::device
