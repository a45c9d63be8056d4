// The kernels of bulk_sm90 where sources, queries and dout are bf16.
#include "impls/attnres_phase1_bwd/bulk_kernel.cuh"

namespace attn::attnres_phase1_bwd {

BulkKernel bulk_kernel_bf16(const BulkLayout& layout) {
  return bulk::kernel_for<__nv_bfloat16>(layout);
}

}  // namespace attn::attnres_phase1_bwd
