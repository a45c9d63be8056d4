// Host data as kernel arguments: one thread a word.
#include <algorithm>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/device_table.h"

namespace attn::colreduce {
namespace {

constexpr int kWords = 960;  // below the 4 KiB that arguments may take everywhere

struct Words {
  std::uint32_t data[kWords];
};

__global__ void __launch_bounds__(kWords)
    write_words(const __grid_constant__ Words words, std::uint32_t* to, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) to[i] = words.data[i];
}

}  // namespace

void enqueue_table(const std::vector<std::uint32_t>& words, void* to, Stream stream) {
  for (std::size_t first = 0; first < words.size(); first += kWords) {
    const std::size_t count = std::min<std::size_t>(kWords, words.size() - first);
    Words chunk{};
    std::copy_n(words.data() + first, count, chunk.data);
    write_words<<<1, kWords, 0, static_cast<cudaStream_t>(stream.handle)>>>(
        chunk, static_cast<std::uint32_t*>(to) + first, static_cast<int>(count));
    CUDA_CHECK_LAUNCH();
  }
}

KernelUse table_use() { return {reinterpret_cast<const void*>(&write_words), 0, kWords}; }

}  // namespace attn::colreduce
