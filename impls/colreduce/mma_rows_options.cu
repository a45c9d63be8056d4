// Pass 1 of the tensor-core column reduction with options: windows, soft caps, ragged batches.
// mma_rows.cu has the kernels without.
#include "impls/colreduce/mma_rows.cuh"

namespace attn::colreduce {

PassKernel row_options_kernel(DType dtype, std::int64_t D, bool narrow) {
  return row_kernel<true>(dtype, D, narrow);
}

}  // namespace attn::colreduce
