// Host memory for tensors and workspaces.
#include "harness/host_memory.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <sstream>
#include <string>

#include "harness/input_value.h"
#include "harness/word_hash.h"

namespace attn::host {
namespace {

/// The bytes that a line such as "VmRSS:  1234 kB" of a file under /proc names.
std::optional<std::size_t> read_field(const char* path, const std::string& field) {
  std::ifstream file(path);
  std::string name;
  std::size_t kib = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    if (words >> name >> kib && name == field) return kib * 1024;
  }
  return std::nullopt;
}

}  // namespace

void* allocate(std::size_t bytes) {
  constexpr std::size_t kAlignment = 256;
  void* data = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (!data) throw std::bad_alloc();
  return data;
}

void release(void* data) noexcept { std::free(data); }

std::size_t free_bytes() { return read_field("/proc/meminfo", "MemAvailable:").value_or(0); }

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

MemoryPeak::MemoryPeak() {
  malloc_trim(0);  // pages that the allocator keeps would hide the next ones that it hands out
  std::ofstream reset("/proc/self/clear_refs");
  if (reset << 5 && reset.flush())  // 5: the peak is what is resident now (proc(5))
    start_ = read_field("/proc/self/status", "VmRSS:");
}

std::optional<std::size_t> MemoryPeak::growth() const {
  const std::optional<std::size_t> peak = read_field("/proc/self/status", "VmHWM:");
  if (!start_ || !peak) return std::nullopt;
  return std::max(*peak, *start_) - *start_;
}

// RLIMIT_DATA counts private writable mappings, which is what allocators hand out, and not the
// address ranges that a GPU's driver reserves.
MemoryLimit::MemoryLimit() {
  getrlimit(RLIMIT_DATA, &before_);
  const std::optional<std::size_t> taken = read_field("/proc/self/status", "VmData:");
  if (!taken) return;
  const rlimit lower{
      .rlim_cur = std::min<rlim_t>(before_.rlim_cur, *taken + free_bytes() / 20 * 19),
      .rlim_max = before_.rlim_max};
  setrlimit(RLIMIT_DATA, &lower);
}

MemoryLimit::~MemoryLimit() { setrlimit(RLIMIT_DATA, &before_); }

}  // namespace attn::host
