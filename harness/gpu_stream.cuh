// The stream that every launch of the harness goes to, and the properties of its device.
#pragma once

#include <cuda_runtime.h>

namespace attn::gpu {

cudaStream_t stream();
const cudaDeviceProp& device_properties();

}  // namespace attn::gpu
