// The arguments of the mix's kernels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "impls/attnres/mix_layout.h"
#include "impls/attnres/read_config.h"
#include "impls/attnres/rows.h"
#include "reference/attnres_mix/contract.h"

namespace attn::attnres_mix {

/// All but the sources.
struct MixArguments {
  attnres::RowsOf wt, gamma;                 // [1, D], of one type; gamma null without a norm
  attnres::RowsOf update, sum, out, normed;  // [tokens, D]; null where there is none
  float* lse;                                // [tokens], or null
  float* weights;                            // [tokens, N], or null
  std::int64_t tokens;
  int N, D;
  int groups;  // of eight columns
  float eps, norm_eps;
};

/// With as many sources as there may be.
struct CachedArguments : MixArguments {
  attnres::Planes v;  // N planes [tokens, D]
};

/// With the sources that a kernel can hold, in the order of its rows: a launch of one token waits for all of
/// its arguments to come.
struct HeldArguments : MixArguments {
  std::int64_t stride;                                      // of a source's tokens
  std::array<const void*, attnres::kMostHeldSources> rows;  // N planes [tokens, D], then nulls
};

using CachedKernel = void (*)(CachedArguments);
using HeldKernel = void (*)(HeldArguments);

/// The source in a row of the kernels that hold them: row 0 is the last one, so that what an update changes
/// has a fixed place.
constexpr int source_of(int row, int N) { return row == 0 ? N - 1 : row - 1; }

inline MixArguments mix_arguments(const AttnResMix::Problem& p, const AttnResMix::Tensors& t) {
  using attnres::rows_of;
  return {.wt = rows_of(t.wt),
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

inline CachedArguments cached_arguments(const AttnResMix::Problem& p,
                                        const AttnResMix::Tensors& t) {
  return {mix_arguments(p, t), t.v};
}

/// N is at most kMostHeldSources.
inline HeldArguments held_arguments(const AttnResMix::Problem& p, const AttnResMix::Tensors& t) {
  HeldArguments arguments{mix_arguments(p, t), t.v.stride, {}};
  for (int row = 0; row < arguments.N; ++row)
    arguments.rows.at(static_cast<std::size_t>(row)) =
        t.v.data.at(static_cast<std::size_t>(source_of(row, arguments.N)));
  return arguments;
}

/// Whether all rows that there are start on 16 bytes.
inline bool has_vectors(const AttnResMix::Problem& p, const AttnResMix::Tensors& t) {
  bool vectors = attnres::has_vector_rows(t.v, p);
  for (const TensorView* view : {&t.wt, &t.gamma, &t.update, &t.sum, &t.out, &t.normed})
    vectors = vectors && (!view->data || attnres::has_vector_rows(*view));
  return vectors;
}

}  // namespace attn::attnres_mix
