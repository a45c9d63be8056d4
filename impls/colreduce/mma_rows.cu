// Pass 1 of the tensor-core column reduction: the kernels that write the lse of each query.
// mma_rows.cuh says what they compute, mma_sm80.cu how the passes fit together.
#include "impls/colreduce/mma_policies.cuh"
#include "impls/colreduce/mma_rows.cuh"

namespace attn::colreduce {

PassKernel row_pass_kernel(DType dtype, std::int64_t D, bool narrow) {
  PassKernel kernel;
  dispatch_padded(D, [&](auto padded) {
    using Narrow = NarrowPolicy<padded>;
    using Wide = WidePolicy<padded>;
    kernel = narrow ? pass_kernel<Narrow, RowPass<Narrow>>(dtype)
                    : pass_kernel<Wide, RowPass<Wide>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
