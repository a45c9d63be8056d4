// GPUs and their streams, of a LibTorch with CUDA.
#include <ATen/cuda/EmptyTensor.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "harness/core/cuda_check.h"
#include "python/csrc/libtorch_device.h"

namespace attn {
namespace {

DeviceInfo describe(int index) {
  cudaDeviceProp p{};
  CUDA_CHECK(cudaGetDeviceProperties(&p, index));
  return {.space = MemorySpace::kDevice,
          .name = p.name,
          .sm = 10 * p.major + p.minor,
          .sm_count = p.multiProcessorCount,
          .shared_bytes_per_block = p.sharedMemPerBlockOptin,
          .l2_bytes = static_cast<std::size_t>(p.l2CacheSize),
          .total_bytes = p.totalGlobalMem};
}

/// One GPU, described when it is first asked for.
struct Gpu {
  std::once_flag once;
  DeviceInfo info;
};

}  // namespace

const DeviceInfo& gpu_of(c10::Device device) {
  static const auto gpus = [] {
    int count = 0;
    CUDA_CHECK(cudaGetDeviceCount(&count));
    return std::make_unique<std::vector<Gpu>>(static_cast<std::size_t>(count));
  }();
  Gpu& gpu = gpus->at(static_cast<std::size_t>(device.index()));
  std::call_once(gpu.once, [&] { gpu.info = describe(device.index()); });
  return gpu.info;
}

Stream current_stream(c10::Device device) {
  return {c10::cuda::getCurrentCUDAStream(device.index()).stream()};
}

at::Tensor empty_on_gpu(at::IntArrayRef shape, at::ScalarType type, c10::Device device) {
  return at::detail::empty_cuda(shape, type, device, std::nullopt);
}

c10::Allocator& gpu_allocator() { return *c10::cuda::CUDACachingAllocator::get(); }

}  // namespace attn
