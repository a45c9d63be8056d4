// The weights of a merge.
#include "reference/attnres/merge.h"

#include <algorithm>
#include <cmath>

namespace attn::attnres {

PairWeights pair_weights(double z, double l, double error) {
  return {.a = 1 / (1 + std::exp(z - l)),
          .other = 1 / (1 + std::exp(l - z)),
          .lse = std::max(z, l) + std::log1p(std::exp(-std::abs(z - l))),
          .error = error};
}

PairWeights pair_weights(double z, double l) {
  return pair_weights(z, l, 8 * kRoundoff * (1 + std::abs(l - z)));
}

Dot mixed(const PairWeights& weights, double x, double y) {
  const double both = weights.a * weights.other;
  return {weights.other * x + weights.a * y,
          weights.error * both * std::abs(y - x) +
              8 * kRoundoff * (weights.a * std::abs(y) + weights.other * std::abs(x)) +
              kSmallest * (std::abs(y) + std::abs(x))};
}

BoundedRow mixed(const PairWeights& weights, const Row& x, const Row& y) {
  BoundedRow row;
  for (std::size_t d = 0; d < x.size(); ++d) {
    const Dot one = mixed(weights, x[d], y[d]);
    row.value.push_back(one.value);
    row.error.push_back(one.error);
  }
  return row;
}

Dot share(const PairWeights& weights, double own, double dout) {
  return {own * dout, (weights.error * (1 - own) + 8 * kRoundoff) * std::abs(own * dout) +
                          kSmallest * std::abs(dout)};
}

PairGradient pair_gradient(const PairWeights& weights, const Dot& c, double dlse) {
  const double both = weights.a * weights.other;
  const double q = both * c.value;
  const double error = both * c.error + 2 * weights.error * std::abs(q) +
                       8 * kRoundoff * std::abs(q) +
                       (weights.error * both + 4 * kRoundoff + kSmallest) * std::abs(dlse) +
                       kSmallest * std::abs(c.value);
  return {.dl = {q + weights.a * dlse, error}, .dz = {-q + weights.other * dlse, error}};
}

Merge merge(const Row& query, const Row& partial, double z, double eps) {
  const double r = reciprocal_rms(partial, eps);
  const Logit own = logit(query, partial, r);
  const double error =
      own.error + kSumError * (1 + std::abs(own.value)) + 8 * kRoundoff * std::abs(z);
  return {pair_weights(z, own.value, error), r, own.value};
}

}  // namespace attn::attnres
