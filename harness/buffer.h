// Memory of one tensor or workspace, on the host or the GPU, between guard bands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "harness/core/tensor_view.h"

namespace attn {

/// Owns `bytes` of memory with a guard band of 256 bytes or more on either side.
/// Construction throws std::bad_alloc when memory runs out.
class Buffer {
 public:
  Buffer(MemorySpace space, std::size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&&) = delete;
  Buffer(const Buffer&) = delete;

  void* data() const { return base_ + kGuardBytes; }
  std::size_t bytes() const { return bytes_; }
  MemorySpace space() const { return space_; }
  double allocation_ns() const { return allocation_ns_; }  ///< host time that the memory took

  /// Repeats the 32-bit pattern over the buffer; the guard bands keep their own.
  void poison(std::uint32_t pattern) const;
  bool guards_intact() const;
  std::uint64_t hash() const;
  std::vector<std::byte> to_host() const;
  /// The same bytes in other memory of the same space.
  Buffer copy() const;

 private:
  static constexpr std::size_t kGuardBytes = 256;

  MemorySpace space_;
  std::size_t bytes_;
  std::size_t padded_;  ///< bytes_ rounded up to whole 32-bit words
  double allocation_ns_ = 0;
  char* base_ = nullptr;
};

}  // namespace attn
