// The kernels of fused_simt where sources, gradients and dout are bf16.
#include "impls/attnres_phase1_bwd/fused_simt_kernel.cuh"

namespace attn::attnres_phase1_bwd {

SimtKernel simt_kernel_bf16(int held, int tile, const attnres::Layout& layout) {
  return simt::kernel_for<__nv_bfloat16>(held, tile, layout);
}

}  // namespace attn::attnres_phase1_bwd
