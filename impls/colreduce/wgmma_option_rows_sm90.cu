// Pass 1 of wgmma_sm90 with every option: the kernels that write the lse of each query.
// wgmma_option_items.cuh says what they work on, wgmma_rows.cuh what they compute.
#include "impls/colreduce/wgmma_option_items.cuh"
#include "impls/colreduce/wgmma_policies.cuh"
#include "impls/colreduce/wgmma_rows.cuh"

namespace attn::colreduce {

WgmmaKernel wgmma_option_row_kernel(DType dtype, std::int64_t D) {
  WgmmaKernel kernel;
  dispatch_boxed(D, [&](auto padded) {
    kernel = wgmma_kernel<WgmmaRowPolicy<padded>, WgmmaRowPass<WgmmaOptionItems>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
