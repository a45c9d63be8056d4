// Pass 2 of the tensor-core column reduction for at most 64 queries a head: its kernels.
// mma_few_queries.cuh says what they compute, mma_sm80.cu how the passes fit together.
#include "impls/colreduce/mma_few_queries.cuh"
#include "impls/colreduce/mma_policies.cuh"

namespace attn::colreduce {
namespace {

template <class Policy, bool kMax>
PassKernel kernel_for(DType dtype) {
  using Pass = FewQueriesPass<Policy, kMax>;
  return dtype == DType::kF16 ? pass_kernel<__half, Policy, Pass>()
                              : pass_kernel<__nv_bfloat16, Policy, Pass>();
}

}  // namespace

PassKernel few_queries_pass_kernel(DType dtype, std::int64_t D, bool is_max) {
  PassKernel kernel;
  dispatch_dimension(D, [&](auto padded) {
    using Policy = NarrowPolicy<padded>;
    kernel = is_max ? kernel_for<Policy, true>(dtype) : kernel_for<Policy, false>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
