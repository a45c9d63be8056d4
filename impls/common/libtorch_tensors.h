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

/// Runs operators on the caller's stream and without autograd. Throws std::bad_alloc when LibTorch finds
/// no memory.
void run_torch(MemorySpace space, Stream stream, const std::function<void()>& work);

/// On the host: as many threads as the device has.
void use_torch_threads(const DeviceInfo& device);

}  // namespace attn
