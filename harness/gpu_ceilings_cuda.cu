// What this GPU can do now: copy bandwidth, tensor-core, FMA and exponential rates, launch floor.
// Speed-of-light percentages are fractions of these, measured in the same run.
#include <cublas_v2.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

#include "harness/ceilings.h"
#include "harness/core/cuda_check.h"
#include "harness/gpu.h"
#include "harness/gpu_stream.cuh"

namespace attn::gpu {
namespace {

constexpr int kSamples = 12;
constexpr int kChains = 8;  // independent instructions in flight a thread
constexpr int kIterations = 4096;
constexpr int kThreads = 512;

double best_seconds(const Launch& launch) {
  run(launch);
  const Samples samples = time(launch, /*cold=*/false, kSamples);
  return *std::min_element(samples.ns.begin(), samples.ns.end()) * 1e-9;
}

__global__ void null_kernel() {}

__global__ void ex2_kernel(float* sink, float seed) {
  float x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = seed + static_cast<float>(c + threadIdx.x);
  for (int i = 0; i < kIterations; ++i) {
#pragma unroll
    for (int c = 0; c < kChains; ++c)
      asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[c]));  // PTX ISA, ex2
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += x[c];
  if (sum == seed) *sink = sum;  // keeps the chain alive
}

__global__ void fma_kernel(float* sink, float seed) {
  float x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = seed + static_cast<float>(c + threadIdx.x);
  for (int i = 0; i < kIterations; ++i) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) x[c] = __fmaf_rn(x[c], seed, 0.5f);
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += x[c];
  if (sum == seed) *sink = sum;
}

/// Device memory released at the end of a scope.
struct Scratch {
  explicit Scratch(std::size_t bytes) : data(allocate(bytes)) {}
  ~Scratch() { release(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data;
};

int all_ctas() { return 4 * device_properties().multiProcessorCount; }

/// A kernel that runs kChains * kIterations of its instruction a thread, on all SMs.
Launch on_all_sms(void (*kernel)(float*, float)) {
  return {[kernel, sink = std::make_shared<Scratch>(256)](Stream) {
    kernel<<<all_ctas(), kThreads, 0, stream()>>>(static_cast<float*>(sink->data), 0.25f);
    CUDA_CHECK_LAUNCH();
  }};
}

/// Instructions per second of such a kernel.
double instruction_rate(void (*kernel)(float*, float)) {
  return static_cast<double>(all_ctas()) * kThreads * kChains * kIterations /
         best_seconds(on_all_sms(kernel));
}

double copy_rate() {
  constexpr std::size_t kBytes = std::size_t{2} << 30;
  const Scratch from(kBytes);
  const Scratch to(kBytes);
  const double seconds = best_seconds({[&](Stream) {
    CUDA_CHECK(cudaMemcpyAsync(to.data, from.data, kBytes, cudaMemcpyDeviceToDevice, stream()));
  }});
  return 2.0 * kBytes / seconds;
}

void check_cublas(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string("cuBLAS: ") + cublasGetStatusString(status));
}

double mma_rate() {
  constexpr int kSize = 8192;
  TensorSpec spec{.name = "a",
                  .role = TensorRole::kQuery,
                  .dtype = DType::kF16,
                  .shape = {1, 1, kSize, kSize},
                  .strides = {0, 0, kSize, 1},
                  .storage_elements = std::int64_t{kSize} * kSize};
  const Scratch a(spec.storage_bytes());
  const Scratch b(spec.storage_bytes());
  const Scratch c(spec.storage_bytes());
  fill_input(spec, a.data, InputFamily::kNormal, 1);
  fill_input(spec, b.data, InputFamily::kNormal, 2);
  cublasHandle_t handle = nullptr;
  check_cublas(cublasCreate(&handle));
  check_cublas(cublasSetStream(handle, stream()));
  const float one = 1;
  const float zero = 0;
  const double seconds = best_seconds({[&](Stream) {
    check_cublas(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, kSize, kSize, kSize, &one, a.data,
                              CUDA_R_16F, kSize, b.data, CUDA_R_16F, kSize, &zero, c.data,
                              CUDA_R_16F, kSize, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  }});
  cublasDestroy(handle);
  return 2.0 * kSize * kSize * kSize / seconds;
}

double null_kernel_ns() {
  Samples samples = time({[](Stream) {
                           null_kernel<<<1, 1, 0, stream()>>>();
                           CUDA_CHECK_LAUNCH();
                         }},
                         /*cold=*/false, 30);
  std::sort(samples.ns.begin(), samples.ns.end());
  return samples.ns[samples.ns.size() / 2];
}

}  // namespace

Ceilings measure_ceilings() {
  return {.copy_Bps = copy_rate(),
          .mma_flops = mma_rate(),
          .ffma_flops = 2 * instruction_rate(fma_kernel),
          .ex2_per_s = instruction_rate(ex2_kernel),
          .null_kernel_ns = null_kernel_ns()};
}

Launch sentinel() { return on_all_sms(fma_kernel); }

}  // namespace attn::gpu
