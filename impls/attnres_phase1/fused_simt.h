// The kernels of fused_simt: one file instantiates those of a source type.
#pragma once

#include "impls/attnres/read_config.h"
#include "impls/attnres/read_kernel.cuh"

namespace attn::attnres_phase1 {

struct SimtArguments {
  attnres::ReadArguments read;
  void* out;  // [S, tokens, D]
  DType out_dtype;
  float* lse;  // [S, tokens]
};

using SimtKernel = void (*)(SimtArguments);

/// The kernel for sources of a type; `tile` queries at a time.
SimtKernel simt_kernel_f16(int tile, const attnres::Layout& layout);
SimtKernel simt_kernel_bf16(int tile, const attnres::Layout& layout);
SimtKernel simt_kernel_f32(int tile, const attnres::Layout& layout);

}  // namespace attn::attnres_phase1
