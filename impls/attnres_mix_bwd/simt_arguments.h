// The arguments of the backward's kernels.
#pragma once

#include <cstdint>

#include "impls/attnres/mix_layout.h"
#include "impls/attnres/read_config.h"
#include "impls/attnres/rows.h"
#include "reference/attnres_mix_bwd/contract.h"

namespace attn::attnres_mix_bwd {

struct SimtArguments {
  attnres::Planes v, dv;          // N planes [tokens, D]
  attnres::RowsOf wt, gamma;      // [1, D], of one type; gamma null without a norm
  attnres::RowsOf dout, dnormed;  // [tokens, D]; null where there is none
  DType out_dtype;
  const float* dlse;  // [tokens], or null
  float* dwt;         // [CTAs, 2, groups, 4]: split rows
  float* dgamma;      // the same, with a norm
  float* rows;        // the same, scratch, with a norm and rows from the caches
  std::int64_t tokens;
  int N, D;
  int groups;  // of eight columns
  float eps, norm_eps;
  bool add[attnres::kMaxSources];  // to dv
};

using SimtKernel = void (*)(SimtArguments);

/// Shares of gradients a CTA, [ctas, groups, 8] each: dwt, with a norm dgamma, and there a scratch row.
inline constexpr int kNormAreas = 3;

inline SimtArguments simt_arguments(const AttnResMixBwd::Problem& p,
                                    const AttnResMixBwd::Tensors& t,
                                    float* workspace,
                                    std::int64_t ctas) {
  using attnres::rows_of;
  const std::int64_t groups = attnres::column_groups(p.D);
  SimtArguments arguments{.v = t.v,
                          .dv = t.dv,
                          .wt = rows_of(t.wt),
                          .gamma = rows_of(t.gamma),
                          .dout = rows_of(t.dout),
                          .dnormed = rows_of(t.dnormed),
                          .out_dtype = p.out_type(),
                          .dlse = static_cast<const float*>(t.dlse.data),
                          .dwt = workspace,
                          .dgamma = workspace + ctas * groups * 8,
                          .rows = workspace + 2 * ctas * groups * 8,
                          .tokens = p.tokens(),
                          .N = static_cast<int>(p.N),
                          .D = static_cast<int>(p.D),
                          .groups = static_cast<int>(groups),
                          .eps = static_cast<float>(p.eps),
                          .norm_eps = static_cast<float>(p.norm_eps),
                          .add = {}};
  for (const std::int64_t n : p.add_to) arguments.add[n] = true;
  return arguments;
}

/// Whether all rows that there are start on 16 bytes.
inline bool has_vectors(const AttnResMixBwd::Problem& p, const AttnResMixBwd::Tensors& t) {
  bool vectors = attnres::has_vector_rows(t.v, p) && attnres::has_vector_rows(t.dv, p);
  for (const TensorView* view : {&t.wt, &t.gamma, &t.dout, &t.dnormed})
    vectors = vectors && (!view->data || attnres::has_vector_rows(*view));
  return vectors;
}

/// The kernel that holds so many rows of a type, of those that held_sources may ask for; null where there is
/// none.
SimtKernel held_kernel(DType dtype, int sources, bool norm);
/// The kernel that finds a norm's gradient too from rows of any number, type and address.
SimtKernel cached_norm_kernel(bool vectors);

}  // namespace attn::attnres_mix_bwd
