// Pass 2 of wgmma_sm90 for few queries of heads that share their keys. wgmma_packed_columns.cuh
// says what the kernels compute.
#include "impls/colreduce/wgmma_packed_columns.cuh"
#include "impls/colreduce/wgmma_policies.cuh"

namespace attn::colreduce {

WgmmaKernel wgmma_packed_column_kernel(DType dtype, std::int64_t D, bool is_max) {
  WgmmaKernel kernel;
  dispatch_boxed(D, [&](auto padded) {
    using Policy = WgmmaTilePolicy<padded>;
    static_assert(Policy::kChunks == 1, "a chunk is a whole tile");
    kernel = is_max ? wgmma_kernel<Policy, WgmmaPackedColumnPass<true>>(dtype)
                    : wgmma_kernel<Policy, WgmmaPackedColumnPass<false>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
