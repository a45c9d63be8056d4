// Planes on a device: a sum of two, which no read takes over, at the speed of a copy.
//
// Adds:     nothing to the ladder: the sum that closes a block where the next read has no update.
// Mapping:  a thread adds 16 bytes at a time, or single elements where planes are not aligned.
// Memory:   two loads and a store under way a thread, eight CTAs of 256 threads an SM.
// Limit:    memory: 3 planes.
// Rounding: one fp32 addition, rounded once.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "harness/core/cuda_check.h"
#include "impls/attnres/plane_ops.h"
#include "impls/common/vector_io.cuh"

namespace attn::attnres::on_device {
namespace {

constexpr int kThreads = 256;

/// Elements are whole vectors of kWidth.
template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    add_kernel(T* sum, const T* a, const T* b, std::int64_t vectors) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = blockIdx.x * std::int64_t{kThreads} + threadIdx.x; i < vectors; i += step) {
    if constexpr (kWidth == 1) {
      sum[i] = from_float<T>(to_float(a[i]) + to_float(b[i]));
    } else {
      float x[kWidth];
      float y[kWidth];
      load_vector(a + i * kWidth, x);
      load_vector(b + i * kWidth, y);
#pragma unroll
      for (int c = 0; c < kWidth; ++c) x[c] += y[c];
      store_vector(sum + i * kWidth, x);
    }
  }
}

bool aligned(const void* data) { return reinterpret_cast<std::uintptr_t>(data) % 16 == 0; }

template <class T>
Launch add(
    void* sum, const void* a, const void* b, std::int64_t elements, const DeviceInfo& device) {
  constexpr int kWidth = kVectorElements<T>;
  const bool vectors = aligned(sum) && aligned(a) && aligned(b) && elements % kWidth == 0;
  const auto kernel = vectors ? add_kernel<T, kWidth> : add_kernel<T, 1>;
  const std::int64_t count = vectors ? elements / kWidth : elements;
  const std::int64_t resident = 8 * std::max(1, device.sm_count);
  const auto ctas = static_cast<unsigned>(std::min((count + kThreads - 1) / kThreads, resident));
  Launch launch;
  launch.kernels.push_back({reinterpret_cast<const void*>(kernel), 0, kThreads});
  launch.enqueue = [=](Stream stream) {
    if (ctas == 0) return;
    kernel<<<ctas, kThreads, 0, static_cast<cudaStream_t>(stream.handle)>>>(
        static_cast<T*>(sum), static_cast<const T*>(a), static_cast<const T*>(b), count);
    CUDA_CHECK_LAUNCH();
  };
  return launch;
}

}  // namespace

Launch add_planes(void* sum,
                  const void* a,
                  const void* b,
                  DType dtype,
                  std::int64_t elements,
                  const DeviceInfo& device) {
  if (dtype == DType::kF16) return add<__half>(sum, a, b, elements, device);
  if (dtype == DType::kBF16) return add<__nv_bfloat16>(sum, a, b, elements, device);
  return add<float>(sum, a, b, elements, device);
}

Launch copy_bytes(void* to, const void* from, std::size_t bytes) {
  Launch launch;
  launch.enqueue = [=](Stream stream) {
    if (bytes > 0)
      CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice,
                                 static_cast<cudaStream_t>(stream.handle)));
  };
  return launch;
}

Launch clear_bytes(void* to, std::size_t bytes) {
  Launch launch;
  launch.enqueue = [=](Stream stream) {
    if (bytes > 0)
      CUDA_CHECK(cudaMemsetAsync(to, 0, bytes, static_cast<cudaStream_t>(stream.handle)));
  };
  return launch;
}

}  // namespace attn::attnres::on_device
