// fused_simt's kernels with a norm of the merged row.
#include "impls/attnres_merge/fused_simt_kernel.cuh"

namespace attn::attnres_merge {

SimtKernel simt_kernel_norm(DType partial, DType out, bool vectors, std::int64_t groups) {
  return attnres::merge_kernel_for<simt::KernelOf<true>::Type>(partial, out, vectors, groups);
}

}  // namespace attn::attnres_merge
