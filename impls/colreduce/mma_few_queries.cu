// Pass 2 of the tensor-core column reduction for at most 64 queries a head: its kernels.
// mma_few_queries.cuh says what they compute, mma_sm80.cu how the passes fit together.
#include "impls/colreduce/mma_few_queries.cuh"
#include "impls/colreduce/mma_policies.cuh"

namespace attn::colreduce {

PassKernel few_queries_pass_kernel(DType dtype, std::int64_t D, bool is_max) {
  PassKernel kernel;
  dispatch_padded(D, [&](auto padded) {
    using Policy = NarrowPolicy<padded>;
    kernel = is_max ? pass_kernel<Policy, FewQueriesPass<Policy, true>>(dtype)
                    : pass_kernel<Policy, FewQueriesPass<Policy, false>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
