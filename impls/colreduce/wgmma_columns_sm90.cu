// Pass 2 of wgmma_sm90: the kernels that reduce each key's weights. wgmma_columns.cuh says what
// they compute, wgmma_sm90.cu how the passes fit together.
#include "impls/colreduce/wgmma_columns.cuh"
#include "impls/colreduce/wgmma_policies.cuh"

namespace attn::colreduce {

WgmmaKernel wgmma_column_kernel(DType dtype, std::int64_t D, bool is_max) {
  WgmmaKernel kernel;
  dispatch_boxed(D, [&](auto padded) {
    using Policy = WgmmaColumnPolicy<padded>;
    kernel = is_max ? wgmma_kernel<Policy, WgmmaColumnPass<true>>(dtype)
                    : wgmma_kernel<Policy, WgmmaColumnPass<false>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
