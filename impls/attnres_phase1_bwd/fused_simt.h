// The kernels of fused_simt: one file instantiates those of a type.
#pragma once

#include "impls/attnres/read_config.h"
#include "impls/attnres/read_kernel.cuh"

namespace attn::attnres_phase1_bwd {

struct SimtArguments {
  attnres::ReadArguments read;
  const void* dout;  // [S, tokens, D]
  DType dout_dtype;
  const float* dlse;               // [S, tokens], or null
  attnres::Planes dv;              // N planes [tokens, D]
  bool add[attnres::kMaxSources];  // to what a plane holds
  float* partials;                 // [CTAs, S, groups * 8]: split shares of the queries' gradient
};

/// Warps of a CTA, at most: 255 registers for each of their threads.
inline constexpr int kSimtWarps = 8;

using SimtKernel = void (*)(SimtArguments);

/// The kernel for sources, gradients and dout of one type; `tile` queries at a time, 1 or 4.
/// `held`: of attnres::held_queries.
SimtKernel simt_kernel_f16(int held, int tile, const attnres::Layout& layout);
SimtKernel simt_kernel_bf16(int held, int tile, const attnres::Layout& layout);
SimtKernel simt_kernel_f32(int held, int tile, const attnres::Layout& layout);
/// The kernel for all else: one element at a time, of any types.
SimtKernel simt_kernel_single(int tile);

}  // namespace attn::attnres_phase1_bwd
