// The kernels of fused_simt for sources in f16.
#include "impls/attnres_phase1/fused_simt_kernel.cuh"

namespace attn::attnres_phase1 {

SimtKernel simt_kernel_f16(int tile, const attnres::Layout& layout) {
  return simt::kernel_for<__half>(tile, layout);
}

}  // namespace attn::attnres_phase1
