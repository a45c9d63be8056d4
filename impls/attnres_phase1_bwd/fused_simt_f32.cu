// The kernels of fused_simt where sources, gradients and dout are f32.
#include "impls/attnres_phase1_bwd/fused_simt_kernel.cuh"

namespace attn::attnres_phase1_bwd {

SimtKernel simt_kernel_f32(int held, int tile, const attnres::Layout& layout) {
  return simt::kernel_for<float>(held, tile, layout);
}

}  // namespace attn::attnres_phase1_bwd
