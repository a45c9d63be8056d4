// Pass 2 of the tensor-core column reduction: the kernels that reduce each key's weights.
// mma_columns.cuh says what they compute, mma_sm80.cu how the passes fit together.
#include "impls/colreduce/mma_columns.cuh"

namespace attn::colreduce {

PassKernel column_pass_kernel(DType dtype, std::int64_t D, bool is_max) {
  return column_kernel<false>(dtype, D, is_max);
}

}  // namespace attn::colreduce
