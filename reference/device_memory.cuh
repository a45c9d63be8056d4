// Device memory of the fp64 oracles on the GPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "harness/core/cuda_check.h"

namespace attn {

/// Device memory for as long as the object lives.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::int64_t count) {
    CUDA_CHECK(cudaMalloc(&data_, static_cast<std::size_t>(count) * sizeof(T)));
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  T* get() const { return static_cast<T*>(data_); }
  void copy_to(T* host, std::int64_t count) const {
    CUDA_CHECK(cudaMemcpy(host, data_, static_cast<std::size_t>(count) * sizeof(T),
                          cudaMemcpyDeviceToHost));
  }

 private:
  void* data_ = nullptr;
};

}  // namespace attn
