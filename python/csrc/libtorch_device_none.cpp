// Stands in for GPUs where the build has no CUDA, or its LibTorch has none.
#include <c10/util/Exception.h>

#include "python/csrc/libtorch_device.h"

namespace attn {
namespace {

[[noreturn]] void refuse() {
  TORCH_CHECK_NOT_IMPLEMENTED(false, "attnbench: this libattnbench.so was built without CUDA");
}

}  // namespace

const DeviceInfo& gpu_of(c10::Device) { refuse(); }

Stream current_stream(c10::Device) { refuse(); }

at::Tensor empty_on_gpu(at::IntArrayRef, at::ScalarType, c10::Device) { refuse(); }

c10::Allocator& gpu_allocator() { refuse(); }

}  // namespace attn
