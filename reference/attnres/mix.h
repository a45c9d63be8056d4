// One token's read by one query in fp64: shared by the oracles of phase 1, of the mix and of its
// backward.
#pragma once

#include "reference/attnres/output_norm.h"
#include "reference/attnres/read.h"

namespace attn::attnres {

struct Mix {
  Weights weights;
  BoundedRow out;  ///< before it is rounded; exact of one source
};
Mix mix(const Row& query, const TokenSources& sources);

/// v + update, rounded to the sources' type as every backend rounds it.
Row rounded_sum(const Row& v, const Row& update, DType dtype);

}  // namespace attn::attnres
