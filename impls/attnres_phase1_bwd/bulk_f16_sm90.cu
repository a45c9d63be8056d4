// The kernels of bulk_sm90 where sources, queries and dout are f16.
#include "impls/attnres_phase1_bwd/bulk_kernel.cuh"

namespace attn::attnres_phase1_bwd {

BulkKernel bulk_kernel_f16(const BulkLayout& layout) { return bulk::kernel_for<__half>(layout); }

}  // namespace attn::attnres_phase1_bwd
