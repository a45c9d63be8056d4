// The weights of a merge.
#include "reference/attnres/merge.h"

#include <algorithm>
#include <cmath>

namespace attn::attnres {

Merge merge(const Row& query, const Row& partial, double z, double eps) {
  Merge merged;
  merged.r = reciprocal_rms(partial, eps);
  const Logit own = logit(query, partial, merged.r);
  merged.l = own.value;
  merged.a = 1 / (1 + std::exp(z - merged.l));
  merged.other = 1 / (1 + std::exp(merged.l - z));
  merged.lse = std::max(z, merged.l) + std::log1p(std::exp(-std::abs(z - merged.l)));
  merged.error = own.error + kSumError * (1 + std::abs(merged.l)) + 8 * kRoundoff * std::abs(z);
  return merged;
}

}  // namespace attn::attnres
