// Which instantiation of the row-resident kernel a problem gets, for a family of policies.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "harness/core/dispatch.h"
#include "impls/colreduce/padded_dimension.h"
#include "impls/colreduce/resident_kernel.cuh"

namespace attn::colreduce {

template <class Element, class Policy, bool kMax>
ResidentKernel resident_kernel_of() {
  return {.function = reinterpret_cast<const void*>(&resident_kernel<Element, Policy, kMax>),
          .threads = Policy::kThreads,
          .shared_bytes = Policy::kSharedBytes,
          .chunks = Policy::kChunks};
}

/// The kernel of Policy<masked> for a type and variant.
template <template <bool> class Policy>
ResidentKernel resident_kernel_of_variant(DType dtype, ResidentVariant variant) {
  ResidentKernel kernel;
  dispatch<0, 1>(variant.masked, [&](auto masked) {
    dispatch<0, 1>(variant.is_max, [&](auto is_max) {
      using P = Policy<masked != 0>;
      kernel = dtype == DType::kF16 ? resident_kernel_of<__half, P, is_max != 0>()
                                    : resident_kernel_of<__nv_bfloat16, P, is_max != 0>();
    });
  });
  return kernel;
}

template <template <int, bool> class Policy, int kD>
struct PolicyOf {
  template <bool kMasked>
  using type = Policy<kD, kMasked>;
};

/// The kernel of Policy<D, masked>.
template <template <int, bool> class Policy>
ResidentKernel resident_kernel_for(DType dtype, std::int64_t D, ResidentVariant variant) {
  ResidentKernel kernel;
  dispatch<64, 96, 128>(boxed_dimension(D), [&](auto padded) {
    kernel = resident_kernel_of_variant<PolicyOf<Policy, padded>::template type>(dtype, variant);
  });
  return kernel;
}

}  // namespace attn::colreduce
