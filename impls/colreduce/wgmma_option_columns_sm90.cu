// Pass 2 of wgmma_sm90 with every option: the kernels that reduce each key's weights over queries
// and heads. wgmma_option_columns.cuh says what they compute.
#include "impls/colreduce/wgmma_option_columns.cuh"
#include "impls/colreduce/wgmma_policies.cuh"

namespace attn::colreduce {

WgmmaKernel wgmma_option_column_kernel(DType dtype, std::int64_t D, bool is_max) {
  WgmmaKernel kernel;
  dispatch_boxed(D, [&](auto padded) {
    using Policy = WgmmaColumnPolicy<padded>;
    kernel = is_max ? wgmma_kernel<Policy, WgmmaOptionColumnPass<true>>(dtype)
                    : wgmma_kernel<Policy, WgmmaOptionColumnPass<false>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
