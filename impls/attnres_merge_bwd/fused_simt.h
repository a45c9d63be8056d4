// The kernels of fused_simt: one file instantiates those without a norm, another those with one.
#pragma once

#include "impls/attnres/merge_kernel.cuh"

namespace attn::attnres_merge_bwd {

struct SimtArguments {
  attnres::MergeArguments merge;
  attnres::RowsOf dout, dnormed, dpartial, dread;  // [tokens, D]; null where there is none
  attnres::RowsOf gamma;                           // [1, D]; null without a norm
  const float* dlse;                               // null without one
  float* dz;
  float* dwt;     // [CTAs, 2, groups, 4]: split rows
  float* dgamma;  // the same, with a norm
  DType out_dtype;
  float norm_eps;
  bool add;  // to dpartial
};

/// Groups of eight columns of a thread, at least: with a norm there are registers for one.
inline constexpr int kPlainGroups = 2;
inline constexpr int kNormGroups = 1;

using SimtKernel = void (*)(SimtArguments);

SimtKernel simt_kernel(DType partial, DType out, bool vectors, std::int64_t groups);
SimtKernel simt_kernel_norm(DType partial, DType out, bool vectors, std::int64_t groups);

}  // namespace attn::attnres_merge_bwd
