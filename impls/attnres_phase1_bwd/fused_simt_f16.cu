// The kernels of fused_simt where sources, gradients and dout are f16.
#include "impls/attnres_phase1_bwd/fused_simt_kernel.cuh"

namespace attn::attnres_phase1_bwd {

SimtKernel simt_kernel_f16(int held, int tile, const attnres::Layout& layout) {
  return simt::kernel_for<__half>(held, tile, layout);
}

}  // namespace attn::attnres_phase1_bwd
