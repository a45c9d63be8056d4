// Pass 2 of the tensor-core column reduction with options: windows, soft caps, ragged batches,
// combined heads. mma_columns.cu has the kernels without.
#include "impls/colreduce/mma_columns.cuh"

namespace attn::colreduce {

PassKernel column_options_kernel(DType dtype, std::int64_t D, bool is_max) {
  return column_kernel<true>(dtype, D, is_max);
}

}  // namespace attn::colreduce
