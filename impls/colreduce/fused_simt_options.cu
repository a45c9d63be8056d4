// The kernels of fused_simt with every option of the contract; fused_simt.cu has those without.
#include "impls/colreduce/fused_simt_kernels.cuh"

namespace attn::colreduce {

SimtKernels simt_option_kernels(DType dtype, bool vectors) {
  return simt::kernels_for<true>(dtype, vectors);
}

}  // namespace attn::colreduce
