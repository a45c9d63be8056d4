// What the libtorch backends need of LibTorch's CUDA part, so that it builds against either.
#pragma once

#include <functional>

#include "harness/core/backend.h"

namespace attn {

/// Calls `work` with the caller's stream as LibTorch's current one; on the host just calls it.
/// On a GPU, the device is CUDA's current one.
void with_torch_stream(MemorySpace space, Stream stream, const std::function<void()>& work);

/// Returns the blocks that LibTorch's allocator keeps for the next tensor.
void trim_torch_cache();

}  // namespace attn
