// The host's counterparts of gpu.h: allocation, patterns, inputs and hashes in host memory.
#pragma once

#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include "harness/core/input_family.h"
#include "harness/core/tensor_view.h"

namespace attn::host {

void* allocate(std::size_t bytes);  ///< 256-byte aligned; throws std::bad_alloc
void release(void* data) noexcept;
std::size_t free_bytes();  ///< memory the system can give without swapping
void fill_pattern(void* data, std::size_t bytes, std::uint32_t pattern);
void fill_input(const TensorSpec& spec, void* storage, InputFamily family, std::uint64_t key);
/// Sum over the 32-bit words of word * (2 * index + 1), mixed: any changed or moved word shows.
std::uint64_t hash(const void* data, std::size_t bytes);

/// How far this process's resident memory rises above where it stood when this was made: what a launch
/// takes besides the memory that it was given. The kernel counts pages lazily: good to a MiB or so.
class MemoryPeak {
 public:
  MemoryPeak();
  /// Bytes; empty where the system does not tell.
  std::optional<std::size_t> growth() const;

 private:
  std::optional<std::size_t> start_;
};

/// While it lives, this process cannot allocate more than nearly all memory that is free now: a
/// launch that hoards gets std::bad_alloc, and no other program pays for it.
class MemoryLimit {
 public:
  MemoryLimit();
  ~MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace attn::host
