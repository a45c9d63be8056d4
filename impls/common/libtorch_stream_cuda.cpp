// Streams and cached memory of a LibTorch with CUDA.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "impls/common/libtorch_stream.h"

namespace attn {

void with_torch_stream(MemorySpace space, Stream stream, const std::function<void()>& work) {
  if (space == MemorySpace::kHost) return work();
  const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromExternal(
      static_cast<cudaStream_t>(stream.handle), c10::cuda::current_device()));
  work();
}

void trim_torch_cache() { c10::cuda::CUDACachingAllocator::emptyCache(); }

}  // namespace attn
