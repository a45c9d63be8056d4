// The limit of a kernel's dynamic shared memory, where several plans of one kernel wait to be launched.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <map>
#include <mutex>
#include <utility>

#include "harness/core/cuda_check.h"

namespace attn {

/// Lets launches of `kernel` on the current device have `bytes` of dynamic shared memory. Never lowers the
/// limit: a plan for a larger problem may still be waiting. Asks the driver only when the limit grows.
inline void raise_shared_limit(const void* kernel, std::size_t bytes) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, std::size_t> limits;
  int device = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  std::size_t& limit = limits[{kernel, device}];
  if (bytes <= limit) return;
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)));
  limit = bytes;
}

}  // namespace attn
