// Views as LibTorch tensors, and how its operators run under the harness's rules.
#pragma once

#include <ATen/ATen.h>

#include <functional>

#include "harness/core/backend.h"
#include "impls/common/libtorch_stream.h"

namespace attn {

at::ScalarType scalar_type(DType dtype);

/// The view as a tensor over the same memory: nothing is copied.
at::Tensor wrap(const TensorView& view, MemorySpace space);

/// A launch that runs operators on the caller's stream, without autograd, and on the host with as many
/// threads as the device has. It throws std::bad_alloc when LibTorch finds no memory.
Launch torch_launch(const DeviceInfo& device, const std::function<void(MemorySpace)>& work);

}  // namespace attn
