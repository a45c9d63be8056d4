// The GPU itself: facts about it, running a launch, recovering from its errors.
#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

#include <fstream>

#include "harness/core/cuda_check.h"
#include "harness/gpu.h"
#include "harness/gpu_stream.cuh"
#include "harness/kernel_name.h"

namespace attn::gpu {
namespace {

std::string driver_version() {
  // "NVRM version: NVIDIA UNIX ... Kernel Module  580.159.03  ..." : the first word with two dots.
  std::ifstream file("/proc/driver/nvidia/version");
  std::string word;
  while (file >> word) {
    if (word.find_first_not_of("0123456789.") == std::string::npos && word.find('.') != word.npos)
      return word;
  }
  return {};
}

std::optional<int> attribute(cudaDeviceAttr which) {
  int value = 0;
  if (cudaDeviceGetAttribute(&value, which, 0) != cudaSuccess) return std::nullopt;
  return value;
}

std::optional<int> clock_mhz(cudaDeviceAttr which) {
  const std::optional<int> khz = attribute(which);
  return khz ? std::optional<int>(*khz / 1000) : std::nullopt;
}

}  // namespace

cudaStream_t stream() {
  static const cudaStream_t kStream = [] {
    cudaStream_t created = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking));
    return created;
  }();
  return kStream;
}

const cudaDeviceProp& device_properties() {
  static const cudaDeviceProp kProperties = [] {
    cudaDeviceProp properties{};
    CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
    return properties;
  }();
  return kProperties;
}

std::optional<Facts> find(std::string& why) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    why = error == cudaSuccess ? "no GPU" : cudaGetErrorString(error);
    cudaGetLastError();
    return std::nullopt;
  }
  const cudaDeviceProp& p = device_properties();
  Facts facts;
  facts.info = {.space = MemorySpace::kDevice,
                .name = p.name,
                .sm = 10 * p.major + p.minor,
                .sm_count = p.multiProcessorCount,
                .shared_bytes_per_block = p.sharedMemPerBlockOptin,
                .l2_bytes = static_cast<std::size_t>(p.l2CacheSize),
                .total_bytes = p.totalGlobalMem};
  int runtime = 0;
  CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  facts.runtime = std::to_string(runtime / 1000) + "." + std::to_string(runtime % 1000 / 10);
  facts.driver = driver_version();
  facts.ecc = p.ECCEnabled != 0;
  facts.sm_clock_mhz = clock_mhz(cudaDevAttrClockRate);
  facts.memory_clock_mhz = clock_mhz(cudaDevAttrMemoryClockRate);
  return facts;
}

void run(const Launch& launch) {
  launch.enqueue({stream()});
  CUDA_CHECK(cudaStreamSynchronize(stream()));
}

void profile(const Launch& launch, const std::string& range) {
  CUDA_CHECK(cudaProfilerStart());
  nvtxRangePushA(range.c_str());
  run(launch);
  nvtxRangePop();
  CUDA_CHECK(cudaProfilerStop());
}

bool recover() noexcept {
  cudaGetLastError();
  return cudaDeviceSynchronize() == cudaSuccess && cudaFree(nullptr) == cudaSuccess;
}

KernelResources describe(const KernelUse& use) {
  cudaFuncAttributes attributes{};
  CUDA_CHECK(cudaFuncGetAttributes(&attributes, use.function));
  const char* name = nullptr;
  CUDA_CHECK(cudaFuncGetName(&name, use.function));
  KernelResources resources{short_kernel_name(name), attributes.numRegs, attributes.localSizeBytes,
                            attributes.sharedSizeBytes + use.dynamic_shared_bytes};
  if (use.threads > 0) {
    int ctas = 0;
    CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&ctas, use.function, use.threads,
                                                             use.dynamic_shared_bytes));
    resources.ctas_per_sm = ctas;
    resources.occupancy =
        occupancy_of(ctas, use.threads, device_properties().maxThreadsPerMultiProcessor);
  }
  return resources;
}

}  // namespace attn::gpu
