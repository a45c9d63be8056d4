// The kernels of fused_simt for sources in f32.
#include "impls/attnres_phase1/fused_simt_kernel.cuh"

namespace attn::attnres_phase1 {

SimtKernel simt_kernel_f32(int tile, const attnres::Layout& layout) {
  return simt::kernel_for<float>(tile, layout);
}

}  // namespace attn::attnres_phase1
