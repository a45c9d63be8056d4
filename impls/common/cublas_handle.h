// cuBLAS errors as exceptions, and one handle per GPU for the life of the process.
#pragma once

#include <cublas_v2.h>

#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include "harness/core/cuda_check.h"

namespace attn {

/// Throws what went wrong; running out of memory is a CudaError like everywhere else.
inline void check_cublas(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  if (status == CUBLAS_STATUS_ALLOC_FAILED)
    throw CudaError(cudaErrorMemoryAllocation, call, file, line);
  throw std::runtime_error(std::string(call) + ": " + cublasGetStatusString(status) + " (" + file +
                           ":" + std::to_string(line) + ")");
}

}  // namespace attn

#define CUBLAS_CHECK(call) ::attn::check_cublas((call), #call, __FILE__, __LINE__)

namespace attn {

/// The handle of the current device, created on first use: creation allocates and synchronises, so
/// plans ask for it, never enqueues. It is not destroyed: the driver may be gone by then. Sums are
/// kept in the compute type (no 16-bit partial sums).
inline cublasHandle_t cublas_handle() {
  static std::mutex mutex;
  static std::map<int, cublasHandle_t> handles;
  int device = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  const auto found = handles.find(device);
  if (found != handles.end()) return found->second;
  cublasHandle_t handle = nullptr;
  CUBLAS_CHECK(cublasCreate(&handle));
  CUBLAS_CHECK(cublasSetMathMode(handle, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
  return handles.emplace(device, handle).first->second;
}

}  // namespace attn
