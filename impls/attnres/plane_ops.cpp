// Planes on the host.
#include "impls/attnres/plane_ops.h"

#include <algorithm>
#include <cstring>

namespace attn::attnres {

Launch add_planes(void* sum,
                  const void* a,
                  const void* b,
                  DType dtype,
                  std::int64_t elements,
                  const DeviceInfo& device) {
  if (device.space == MemorySpace::kDevice)
    return on_device::add_planes(sum, a, b, dtype, elements, device);
  Launch launch;
  launch.enqueue = [=, threads = std::max(1, device.threads)](Stream) {
#pragma omp parallel for num_threads(threads)
    for (std::int64_t i = 0; i < elements; ++i)
      store_element(sum, dtype, i, load_element(a, dtype, i) + load_element(b, dtype, i));
  };
  return launch;
}

Launch copy_bytes(void* to, const void* from, std::size_t bytes, const DeviceInfo& device) {
  if (device.space == MemorySpace::kDevice) return on_device::copy_bytes(to, from, bytes);
  Launch launch;
  launch.enqueue = [=](Stream) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  };
  return launch;
}

Launch clear_bytes(void* to, std::size_t bytes, const DeviceInfo& device) {
  if (device.space == MemorySpace::kDevice) return on_device::clear_bytes(to, bytes);
  Launch launch;
  launch.enqueue = [=](Stream) {
    if (bytes > 0) std::memset(to, 0, bytes);
  };
  return launch;
}

}  // namespace attn::attnres
