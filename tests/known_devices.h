// GPUs as the pure functions of shape and device see them.
#pragma once

#include "harness/core/backend.h"

namespace attn {

inline const DeviceInfo kA100{.space = MemorySpace::kDevice,
                              .name = "A100",
                              .sm = 80,
                              .sm_count = 108,
                              .shared_bytes_per_block = 163 * 1024};
inline const DeviceInfo kH200{.space = MemorySpace::kDevice,
                              .name = "H200",
                              .sm = 90,
                              .sm_count = 132,
                              .shared_bytes_per_block = 227 * 1024};

}  // namespace attn
