// One token's merge of a partial sum with what phase 1 has read, in fp64: shared by the oracles of the
// merge and of its backward.
#pragma once

#include "reference/attnres/read.h"

namespace attn::attnres {

/// The two sources' weights.
struct Merge {
  double r = 0;      ///< reciprocal RMS of the partial sum
  double l = 0;      ///< its logit
  double a = 0;      ///< its weight, sigmoid(l - z)
  double other = 0;  ///< 1 - a, computed as sigmoid(z - l)
  double lse = 0;    ///< log(e^l + e^z)
  double error = 0;  ///< of l - z and of the lse
};
Merge merge(const Row& query, const Row& partial, double z, double eps);

}  // namespace attn::attnres
