// One token's read by one query in fp64: shared by the oracles of phase 1, of the mix and of its
// backward.
#pragma once

#include <span>

#include "reference/attnres/output_norm.h"
#include "reference/attnres/read.h"

namespace attn::attnres {

struct Mix {
  Weights weights;
  BoundedRow out;  ///< before it is rounded; exact of one source
};
Mix mix(const Row& query, const TokenSources& sources);

/// Those of all queries and tokens on the GPU, with their normalisers where `specs` has a second output; in
/// builds with CUDA.
Reference read_on_device(const ReadProblem& p,
                         const Planes& v,
                         const TensorView& wt,
                         std::span<const TensorSpec> specs);

/// v + update, rounded to the sources' type as every backend rounds it.
Row rounded_sum(const Row& v, const Row& update, DType dtype);

}  // namespace attn::attnres
