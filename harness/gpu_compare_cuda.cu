// The comparer on the GPU, for outputs whose reference lies there: a thread takes every so many
// elements, a CTA combines its threads, the host the CTAs.
#include <cstdint>
#include <vector>

#include "harness/core/cuda_check.h"
#include "harness/gpu.h"

namespace attn::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kCtas = 2048;  // grid-stride loops: enough to fill any GPU

__device__ std::int64_t first_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

/// What one rounding to the output's type may add.
struct Rounding {
  double relative;
  double absolute;
};

__global__ void __launch_bounds__(kThreads) compare_kernel(
    const void* output, DType dtype, DeviceAnswer answer, Rounding rounding, Comparison* parts) {
  alignas(Comparison)
      __shared__ unsigned char storage[kThreads * sizeof(Comparison)];  // no constructors run there
  auto* own = reinterpret_cast<Comparison*>(storage);
  Comparison mine;
  for (std::int64_t i = first_index(); i < static_cast<std::int64_t>(answer.elements);
       i += std::int64_t{kCtas} * kThreads) {
    const double value = answer.value[i];
    const double error = answer.error ? answer.error[i] : 0;
    mine.add(static_cast<std::size_t>(i), load_element(output, dtype, i), value,
             rounding.relative * fabs(value) + rounding.absolute + error);
  }
  own[threadIdx.x] = mine;
  __syncthreads();  // all threads: their comparisons are there
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kThreads; ++i) mine.merge(own[i]);
  parts[blockIdx.x] = mine;
}

__global__ void __launch_bounds__(kThreads)
    differ_kernel(const std::uint16_t* a, const std::uint16_t* b, std::int64_t count, int* differ) {
  for (std::int64_t i = first_index(); i < count; i += std::int64_t{kCtas} * kThreads) {
    if (a[i] != b[i]) *differ = 1;  // whoever writes, writes the same
  }
}

}  // namespace

Comparison compare(const void* output, DType dtype, const DeviceAnswer& answer) {
  auto* parts = static_cast<Comparison*>(allocate(kCtas * sizeof(Comparison)));
  compare_kernel<<<kCtas, kThreads>>>(output, dtype, answer,
                                      {unit_roundoff(dtype), half_subnormal(dtype)}, parts);
  CUDA_CHECK_LAUNCH();
  std::vector<Comparison> on_host(kCtas);
  copy_to_host(on_host.data(), parts, kCtas * sizeof(Comparison));
  release(parts);
  Comparison all;
  for (const Comparison& part : on_host) all.merge(part);
  return all;
}

bool same_bits(const void* a, const void* b, std::size_t bytes) {
  auto* differ = static_cast<int*>(allocate(sizeof(int)));
  CUDA_CHECK(cudaMemset(differ, 0, sizeof *differ));
  differ_kernel<<<kCtas, kThreads>>>(
      static_cast<const std::uint16_t*>(a), static_cast<const std::uint16_t*>(b),
      static_cast<std::int64_t>(bytes / sizeof(std::uint16_t)), differ);
  CUDA_CHECK_LAUNCH();
  int found = 0;
  copy_to_host(&found, differ, sizeof found);
  release(differ);
  return found == 0;
}

}  // namespace attn::gpu
