// A LibTorch without CUDA has no streams, and its host allocator keeps nothing.
#include "impls/common/libtorch_stream.h"

namespace attn {

void with_torch_stream(MemorySpace, Stream, const std::function<void()>& work) { work(); }

void trim_torch_cache() {}

}  // namespace attn
