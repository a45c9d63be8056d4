// Pass 2 of the tensor-core column reduction: the kernels that reduce each key's weights.
// mma_columns.cuh says what they compute, mma_sm80.cu how the passes fit together.
#include "impls/colreduce/mma_columns.cuh"
#include "impls/colreduce/mma_policies.cuh"

namespace attn::colreduce {

PassKernel column_pass_kernel(DType dtype, std::int64_t D, bool is_max) {
  PassKernel kernel;
  dispatch_padded(D, [&](auto padded) {
    using Policy = WidePolicy<padded>;
    kernel = is_max ? pass_kernel<Policy, ColumnPass<Policy, true>>(dtype)
                    : pass_kernel<Policy, ColumnPass<Policy, false>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
