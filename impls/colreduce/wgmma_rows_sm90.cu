// Pass 1 of wgmma_sm90: the kernels that write the lse of each query. wgmma_rows.cuh says what they
// compute, wgmma_sm90.cu how the passes fit together.
#include "impls/colreduce/wgmma_policies.cuh"
#include "impls/colreduce/wgmma_rows.cuh"

namespace attn::colreduce {

WgmmaKernel wgmma_row_kernel(DType dtype, std::int64_t D) {
  WgmmaKernel kernel;
  dispatch_boxed(D, [&](auto padded) {
    kernel = wgmma_kernel<WgmmaRowPolicy<padded>, WgmmaRowPass<>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
