// fused_simt's kernels without a norm.
#include "impls/attnres_merge_bwd/fused_simt_kernel.cuh"

namespace attn::attnres_merge_bwd {

SimtKernel simt_kernel(DType partial, DType out, bool vectors, std::int64_t groups) {
  return attnres::merge_kernel_for<simt::KernelOf<false>::Type, kPlainGroups>(partial, out, vectors,
                                                                              groups);
}

}  // namespace attn::attnres_merge_bwd
