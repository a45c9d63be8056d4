// A merge's weights in fp64 on the GPU: the definitions of merge.h, by a warp a token.
#pragma once

#include <cmath>
#include <cstdint>

#include "reference/attnres/merge.h"
#include "reference/attnres/oracle_device.cuh"

namespace attn::attnres {

/// The weights of the query wt(d), the partial sum b(d) and the normaliser z. All lanes take part.
template <class Query, class Partial>
__device__ Merge warp_merge(std::int64_t D, double eps, Query&& wt, Partial&& b, double z) {
  Merge merged;
  merged.r = warp_reciprocal_rms(D, eps, b);
  const Logit own = logit_of(warp_dot(D, wt, b), merged.r);
  merged.l = own.value;
  merged.a = 1 / (1 + exp(z - merged.l));
  merged.other = 1 / (1 + exp(merged.l - z));
  merged.lse = fmax(z, merged.l) + log1p(exp(-fabs(z - merged.l)));
  merged.error = own.error + kSumError * (1 + fabs(merged.l)) + 8 * kRoundoff * fabs(z);
  return merged;
}

}  // namespace attn::attnres
