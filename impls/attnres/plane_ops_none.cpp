// A build without CUDA has no planes on a device.
#include <stdexcept>

#include "impls/attnres/plane_ops.h"

namespace attn::attnres::on_device {

Launch add_planes(void*, const void*, const void*, DType, std::int64_t, const DeviceInfo&) {
  throw std::logic_error("this build has no CUDA");
}

Launch copy_bytes(void*, const void*, std::size_t) {
  throw std::logic_error("this build has no CUDA");
}

Launch clear_bytes(void*, std::size_t) { throw std::logic_error("this build has no CUDA"); }

}  // namespace attn::attnres::on_device
