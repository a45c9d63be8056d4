// Stands in for GPUs where the build has no CUDA, or its LibTorch has none.
#include <c10/util/Exception.h>

#include "python/csrc/libtorch_device.h"

namespace attn {

const DeviceInfo& gpu_of(c10::Device) {
  TORCH_CHECK_NOT_IMPLEMENTED(false, "attnbench: this libattnbench.so was built without CUDA");
}

Stream current_stream(c10::Device) { return {}; }

}  // namespace attn
