// The kernels of fused_simt: one file instantiates those without a norm, another those with one.
#pragma once

#include "impls/attnres/merge_kernel.cuh"

namespace attn::attnres_merge {

struct SimtArguments {
  attnres::MergeArguments merge;
  attnres::RowsOf update, out, sum, normed;  // [tokens, D]; null where there is none
  attnres::RowsOf gamma;                     // [1, D]; null without a norm
  float* lse;                                // null without one
  float norm_eps;
};

using SimtKernel = void (*)(SimtArguments);

SimtKernel simt_kernel(DType partial, DType out, bool vectors, std::int64_t groups);
SimtKernel simt_kernel_norm(DType partial, DType out, bool vectors, std::int64_t groups);

}  // namespace attn::attnres_merge
