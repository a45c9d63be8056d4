// Pass 1 of the tensor-core column reduction: the kernels that write the lse of each query.
// mma_rows.cuh says what they compute, mma_sm80.cu how the passes fit together.
#include "impls/colreduce/mma_rows.cuh"

namespace attn::colreduce {

PassKernel row_pass_kernel(DType dtype, std::int64_t D, bool narrow) {
  return row_kernel<false>(dtype, D, narrow);
}

}  // namespace attn::colreduce
