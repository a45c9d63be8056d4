// Fills device memory with one value.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "harness/core/cuda_check.h"

namespace attn {

template <class T>
__global__ void fill_kernel(T* data, std::int64_t count, T value) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < count; i += step) data[i] = value;
}

template <class T>
void enqueue_fill(T* data, std::int64_t count, T value, cudaStream_t stream) {
  constexpr int kCtas = 256;
  constexpr int kThreads = 256;
  fill_kernel<<<kCtas, kThreads, 0, stream>>>(data, count, value);
  CUDA_CHECK_LAUNCH();
}

}  // namespace attn
