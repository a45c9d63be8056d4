// The limit of a kernel's dynamic shared memory, where several plans of one kernel wait to be launched.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "harness/core/cuda_check.h"

namespace attn::attnres {

/// Lets launches of `kernel` have `bytes` of dynamic shared memory. Never lowers the limit: a plan for a
/// larger problem may still be waiting.
template <class Kernel>
void raise_shared_limit(Kernel* kernel, std::size_t bytes) {
  cudaFuncAttributes attributes{};
  CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
  const auto wanted = static_cast<int>(bytes);
  if (wanted > attributes.maxDynamicSharedSizeBytes)
    CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, wanted));
}

}  // namespace attn::attnres
