// The GPU's memory for tensors and workspaces: allocation, patterns, inputs, hashes.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "harness/core/cuda_check.h"
#include "harness/gpu.h"
#include "harness/input_value.h"
#include "harness/word_hash.h"

namespace attn::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kCtas = 2048;  // grid-stride loops: enough to fill any GPU

__device__ std::int64_t first_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ std::int64_t index_step() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

__global__ void pattern_kernel(std::uint32_t* words, std::int64_t count, std::uint32_t pattern) {
  for (std::int64_t i = first_index(); i < count; i += index_step()) words[i] = pattern;
}

__global__ void hash_kernel(const std::uint32_t* words,
                            std::int64_t count,
                            unsigned long long* result) {
  std::uint64_t sum = 0;
  for (std::int64_t i = first_index(); i < count; i += index_step())
    sum += hash_word(words[i], static_cast<std::uint64_t>(i));
  atomicAdd(result, static_cast<unsigned long long>(sum));  // integers: any order, same sum
}

__device__ void store(void* data, DType dtype, std::int64_t index, float value) {
  switch (dtype) {
    case DType::kF16:
      static_cast<__half*>(data)[index] = __float2half_rn(value);
      return;
    case DType::kBF16:
      static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
      return;
    case DType::kF32:
      static_cast<float*>(data)[index] = value;
      return;
  }
}

__global__ void input_kernel(TensorSpec spec, void* first, InputFamily family, std::uint64_t key) {
  const std::int64_t D = spec.shape[3];
  const std::int64_t count = spec.shape[0] * spec.shape[1] * spec.shape[2] * D;
  for (std::int64_t i = first_index(); i < count; i += index_step()) {
    const InputRow at = input_row(spec, i / D);
    const std::int64_t d = i % D;
    const float value = input_value(family, spec.role, key, {at.head, at.row, spec.shape[2], d, D});
    store(first, spec.dtype, at.offset + d, spec.scale * value);
  }
}

}  // namespace

void* allocate(std::size_t bytes) {
  void* data = nullptr;
  CUDA_CHECK(cudaMalloc(&data, bytes));
  return data;
}

void release(void* data) noexcept { cudaFree(data); }

std::size_t free_bytes() {
  std::size_t free = 0;
  std::size_t total = 0;
  CUDA_CHECK(cudaMemGetInfo(&free, &total));
  return free;
}

void copy_to_host(void* host, const void* device, std::size_t bytes) {
  CUDA_CHECK(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
}

void copy_to_device(void* device, const void* from, std::size_t bytes) {
  CUDA_CHECK(cudaMemcpy(device, from, bytes, cudaMemcpyDefault));
  CUDA_CHECK(cudaDeviceSynchronize());  // within the device the copy does not wait
}

void fill_pattern(void* data, std::size_t bytes, std::uint32_t pattern) {
  pattern_kernel<<<kCtas, kThreads>>>(static_cast<std::uint32_t*>(data),
                                      static_cast<std::int64_t>(bytes / sizeof(std::uint32_t)),
                                      pattern);
  CUDA_CHECK_LAUNCH();
  CUDA_CHECK(cudaDeviceSynchronize());
}

void fill_input(const TensorSpec& spec, void* storage, InputFamily family, std::uint64_t key) {
  input_kernel<<<kCtas, kThreads>>>(spec, spec.bind(storage).data, family, key);
  CUDA_CHECK_LAUNCH();
  CUDA_CHECK(cudaDeviceSynchronize());
}

std::uint64_t hash(const void* data, std::size_t bytes) {
  auto* result = static_cast<unsigned long long*>(allocate(sizeof(unsigned long long)));
  CUDA_CHECK(cudaMemset(result, 0, sizeof *result));
  hash_kernel<<<kCtas, kThreads>>>(static_cast<const std::uint32_t*>(data),
                                   static_cast<std::int64_t>(bytes / sizeof(std::uint32_t)),
                                   result);
  CUDA_CHECK_LAUNCH();
  unsigned long long sum = 0;
  copy_to_host(&sum, result, sizeof sum);
  release(result);
  return sum;
}

}  // namespace attn::gpu
