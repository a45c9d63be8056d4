// Pass 1 of the tensor-core column reduction: the kernels that write the lse of each query.
// mma_rows.cuh says what they compute, mma_sm80.cu how the passes fit together.
#include "impls/colreduce/mma_policies.cuh"
#include "impls/colreduce/mma_rows.cuh"

namespace attn::colreduce {
namespace {

template <class Element, class Policy>
PassKernel kernel_of() {
  return pass_kernel<Element, Policy, RowPass<Policy>>();
}

template <class Policy>
PassKernel kernel_for(DType dtype) {
  return dtype == DType::kF16 ? kernel_of<__half, Policy>() : kernel_of<__nv_bfloat16, Policy>();
}

}  // namespace

PassKernel row_pass_kernel(DType dtype, std::int64_t D, bool narrow) {
  PassKernel kernel;
  dispatch_dimension(D, [&](auto padded) {
    kernel =
        narrow ? kernel_for<NarrowPolicy<padded>>(dtype) : kernel_for<WidePolicy<padded>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
