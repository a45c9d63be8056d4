// The kernels of fused_simt for mixed types and for rows that are no whole vectors.
#include "impls/attnres_phase1_bwd/fused_simt_kernel.cuh"

namespace attn::attnres_phase1_bwd {

SimtKernel simt_kernel_single(int tile) {
  using attnres::Rows;
  return tile == 1 ? simt::read_bwd_kernel<float, 1, Rows::kSingle, false>
                   : simt::read_bwd_kernel<float, 4, Rows::kSingle, false>;
}

}  // namespace attn::attnres_phase1_bwd
