// CUDA errors become exceptions that name the call, the file and the line, in every build; memory that
// runs out is std::bad_alloc, as on the host.
#pragma once

#include <cuda_runtime_api.h>

#include <new>
#include <stdexcept>
#include <string>

namespace attn {

/// A failed call of the CUDA runtime.
class CudaError : public std::runtime_error {
 public:
  CudaError(cudaError_t error, const char* call, const char* file, int line)
      : std::runtime_error(std::string(call) + ": " + cudaGetErrorString(error) + " (" + file +
                           ":" + std::to_string(line) + ")") {}
};

inline void check_cuda(cudaError_t error, const char* call, const char* file, int line) {
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: clear it
    throw std::bad_alloc();
  }
  if (error != cudaSuccess) throw CudaError(error, call, file, line);
}

}  // namespace attn

#define CUDA_CHECK(call) ::attn::check_cuda((call), #call, __FILE__, __LINE__)
#define CUDA_CHECK_LAUNCH() \
  ::attn::check_cuda(cudaGetLastError(), "kernel launch", __FILE__, __LINE__)
