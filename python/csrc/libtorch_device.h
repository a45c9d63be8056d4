// What the operators need of the GPU's side of LibTorch, so that they build against either.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/Device.h>

#include "harness/core/backend.h"

namespace attn {

/// The device that a GPU's tensors lie on; asked for once. Throws where the build has no CUDA.
const DeviceInfo& gpu_of(c10::Device device);

/// LibTorch's current stream of a GPU.
Stream current_stream(c10::Device device);

/// at::empty on a GPU, without the dispatcher, which takes longer than the allocator. As gpu_of.
at::Tensor empty_on_gpu(at::IntArrayRef shape, at::ScalarType type, c10::Device device);

/// The caching allocator of GPUs: memory belongs to the device's current stream. As gpu_of.
c10::Allocator& gpu_allocator();

}  // namespace attn
