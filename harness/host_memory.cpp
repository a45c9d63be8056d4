// Host memory for tensors and workspaces.
#include "harness/host_memory.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <string>

#include "harness/input_value.h"
#include "harness/word_hash.h"

namespace attn::host {

void* allocate(std::size_t bytes) {
  constexpr std::size_t kAlignment = 256;
  void* data = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (!data) throw std::bad_alloc();
  return data;
}

void release(void* data) noexcept { std::free(data); }

std::size_t free_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string name;
  std::size_t kib = 0;
  while (meminfo >> name >> kib) {
    if (name == "MemAvailable:") return kib * 1024;
    meminfo.ignore(64, '\n');
  }
  return 0;
}

void fill_pattern(void* data, std::size_t bytes, std::uint32_t pattern) {
  auto* words = static_cast<std::uint32_t*>(data);
  const auto count = static_cast<std::int64_t>(bytes / sizeof(std::uint32_t));
#pragma omp parallel for
  for (std::int64_t i = 0; i < count; ++i) words[i] = pattern;
}

void fill_input(const TensorSpec& spec, void* storage, InputFamily family, std::uint64_t key) {
  const TensorView view = spec.bind(storage);
  const std::int64_t rows = spec.shape[2];
  const std::int64_t D = spec.shape[3];
  const std::int64_t all_rows = spec.shape[0] * spec.shape[1] * rows;
#pragma omp parallel for
  for (std::int64_t i = 0; i < all_rows; ++i) {
    const InputRow at = input_row(spec, i);
    for (std::int64_t d = 0; d < D; ++d) {
      const float value = input_value(family, spec.role, key, {at.head, at.row, rows, d, D});
      store_element(view.data, view.dtype, at.offset + d, spec.scale * value);
    }
  }
}

std::uint64_t hash(const void* data, std::size_t bytes) {
  const auto* words = static_cast<const std::uint32_t*>(data);
  const auto count = static_cast<std::int64_t>(bytes / sizeof(std::uint32_t));
  std::uint64_t sum = 0;
#pragma omp parallel for reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i)
    sum += hash_word(words[i], static_cast<std::uint64_t>(i));
  return sum;
}

}  // namespace attn::host
