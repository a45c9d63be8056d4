// Types, devices and memory of the operators' calls.
#include "python/csrc/libtorch_call.h"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>

#include <cstdint>

namespace attn {

std::optional<DType> dtype_of(at::ScalarType type) {
  if (type == at::kHalf) return DType::kF16;
  if (type == at::kBFloat16) return DType::kBF16;
  if (type == at::kFloat) return DType::kF32;
  return std::nullopt;
}

at::Tensor loadable(const at::Tensor& tensor) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
  return aligned || tensor.is_cpu() ? tensor : tensor.clone(at::MemoryFormat::Contiguous);
}

DeviceInfo device_of(c10::Device where) {
  if (!where.is_cpu()) return gpu_of(where);
  DeviceInfo cpu;
  cpu.threads = at::get_num_threads();
  return cpu;
}

Stream stream_of(c10::Device where) { return where.is_cpu() ? Stream{} : current_stream(where); }

Scratch::Scratch(std::size_t bytes, c10::Device where) : workspace_{nullptr, bytes} {
  if (bytes == 0) return;
  constexpr std::size_t kAlignment = 256;  // an allocator of a CPU's memory promises less
  c10::Allocator& allocator = where.is_cpu() ? *c10::GetCPUAllocator() : gpu_allocator();
  memory_ = allocator.allocate(bytes + kAlignment - 1);
  const auto address = reinterpret_cast<std::uintptr_t>(memory_.get());
  const std::size_t skipped = (kAlignment - address % kAlignment) % kAlignment;
  workspace_.data = static_cast<char*>(memory_.get()) + skipped;
}

}  // namespace attn
