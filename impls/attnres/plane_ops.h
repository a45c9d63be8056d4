// What a schedule needs beside the reads: planes added, copied, cleared, on the host or the device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/core/backend.h"

namespace attn::attnres {

/// sum = a + b, `elements` of a type: in fp32, rounded once. `sum` may be a or b.
Launch add_planes(void* sum,
                  const void* a,
                  const void* b,
                  DType dtype,
                  std::int64_t elements,
                  const DeviceInfo& device);
Launch copy_bytes(void* to, const void* from, std::size_t bytes, const DeviceInfo& device);
/// Zeros.
Launch clear_bytes(void* to, std::size_t bytes, const DeviceInfo& device);

/// The same on a device.
namespace on_device {
Launch add_planes(void* sum,
                  const void* a,
                  const void* b,
                  DType dtype,
                  std::int64_t elements,
                  const DeviceInfo& device);
Launch copy_bytes(void* to, const void* from, std::size_t bytes);
Launch clear_bytes(void* to, std::size_t bytes);
}  // namespace on_device

}  // namespace attn::attnres
