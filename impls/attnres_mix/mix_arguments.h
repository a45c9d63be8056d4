// The arguments of the mix's kernels.
#pragma once

#include <cstdint>

#include "impls/attnres/read_config.h"
#include "impls/attnres/rows.h"
#include "reference/attnres_mix/contract.h"

namespace attn::attnres_mix {

struct MixArguments {
  attnres::Planes v;                         // N planes [tokens, D]
  attnres::RowsOf wt, gamma;                 // [1, D], of one type; gamma null without a norm
  attnres::RowsOf update, sum, out, normed;  // [tokens, D]; null where there is none
  float* lse;                                // [tokens], or null
  float* weights;                            // [tokens, N], or null
  std::int64_t tokens;
  int N, D;
  int groups;  // of eight columns
  float eps, norm_eps;
};

using MixKernel = void (*)(MixArguments);

inline MixArguments mix_arguments(const AttnResMix::Problem& p, const AttnResMix::Tensors& t) {
  using attnres::rows_of;
  return {.v = t.v,
          .wt = rows_of(t.wt),
          .gamma = rows_of(t.gamma),
          .update = rows_of(t.update),
          .sum = rows_of(t.sum),
          .out = rows_of(t.out),
          .normed = rows_of(t.normed),
          .lse = static_cast<float*>(t.lse.data),
          .weights = static_cast<float*>(t.weights.data),
          .tokens = p.tokens(),
          .N = static_cast<int>(p.N),
          .D = static_cast<int>(p.D),
          .groups = static_cast<int>(attnres::column_groups(p.D)),
          .eps = static_cast<float>(p.eps),
          .norm_eps = static_cast<float>(p.norm_eps)};
}

/// Whether all rows that there are start on 16 bytes.
inline bool has_vectors(const AttnResMix::Problem& p, const AttnResMix::Tensors& t) {
  bool vectors = attnres::has_vector_rows(t.v, p);
  for (const TensorView* view : {&t.wt, &t.gamma, &t.update, &t.sum, &t.out, &t.normed})
    vectors = vectors && (!view->data || attnres::has_vector_rows(*view));
  return vectors;
}

}  // namespace attn::attnres_mix
