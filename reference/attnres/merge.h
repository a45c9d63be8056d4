// One token's merge in fp64, of a partial sum with what phase 1 has read or of two reads: shared by the
// oracles of the merges and of their backwards.
#pragma once

#include "reference/attnres/read.h"

namespace attn::attnres {

/// The weights of two sides with the normalisers z and l.
struct PairWeights {
  double a = 0;      ///< of the side of l, sigmoid(l - z)
  double other = 0;  ///< 1 - a, computed as sigmoid(z - l)
  double lse = 0;    ///< log(e^l + e^z)
  double error = 0;  ///< of l - z
};
PairWeights pair_weights(double z, double l, double error);
/// Of two reads, whose normalisers are exact fp32 numbers.
PairWeights pair_weights(double z, double l);

/// other x + a y
Dot mixed(const PairWeights& weights, double x, double y);
/// A row of it.
BoundedRow mixed(const PairWeights& weights, const Row& x, const Row& y);
/// What a dout element gives to the side of weight `own`: own dout.
Dot share(const PairWeights& weights, double own, double dout);

/// Gradients of the two sides' normalisers, of c = <dout, y - x>.
struct PairGradient {
  Dot dl;
  Dot dz;
};
PairGradient pair_gradient(const PairWeights& weights, const Dot& c, double dlse);

/// The partial sum's side; `error` is of the lse too.
struct Merge : PairWeights {
  double r = 0;  ///< reciprocal RMS of the partial sum
  double l = 0;  ///< its logit
};
Merge merge(const Row& query, const Row& partial, double z, double eps);

}  // namespace attn::attnres
