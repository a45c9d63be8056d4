// Guarded memory on either side of the bus.
#include "harness/buffer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <utility>

#include "harness/gpu.h"
#include "harness/host_memory.h"

namespace attn {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kGuardPattern = 0xC5A3C5A3u;

bool on_device(MemorySpace space) { return space == MemorySpace::kDevice; }

void fill(MemorySpace space, void* data, std::size_t bytes, std::uint32_t pattern) {
  on_device(space) ? gpu::fill_pattern(data, bytes, pattern)
                   : host::fill_pattern(data, bytes, pattern);
}

void copy_out(MemorySpace space, void* to, const void* from, std::size_t bytes) {
  if (on_device(space)) {
    gpu::copy_to_host(to, from, bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}

}  // namespace

Buffer::Buffer(MemorySpace space, std::size_t bytes)
    : space_(space), bytes_(bytes), padded_((bytes + 3) / 4 * 4) {
  const std::size_t total = padded_ + 2 * kGuardBytes;
  const Clock::time_point start = Clock::now();
  base_ = static_cast<char*>(on_device(space) ? gpu::allocate(total) : host::allocate(total));
  allocation_ns_ = std::chrono::duration<double, std::nano>(Clock::now() - start).count();
  fill(space_, base_, kGuardBytes, kGuardPattern);
  fill(space_, base_ + kGuardBytes + padded_, kGuardBytes, kGuardPattern);
}

Buffer::~Buffer() {
  if (base_) on_device(space_) ? gpu::release(base_) : host::release(base_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : space_(other.space_),
      bytes_(other.bytes_),
      padded_(other.padded_),
      allocation_ns_(other.allocation_ns_),
      base_(std::exchange(other.base_, nullptr)) {}

void Buffer::poison(std::uint32_t pattern) const { fill(space_, data(), padded_, pattern); }

bool Buffer::guards_intact() const {
  std::array<std::uint32_t, kGuardBytes / sizeof(std::uint32_t)> band;
  for (const char* guard : {base_, base_ + kGuardBytes + padded_}) {
    copy_out(space_, band.data(), guard, kGuardBytes);
    if (std::any_of(band.begin(), band.end(), [](auto word) { return word != kGuardPattern; }))
      return false;
  }
  return true;
}

std::uint64_t Buffer::hash() const {
  return on_device(space_) ? gpu::hash(data(), padded_) : host::hash(data(), padded_);
}

std::vector<std::byte> Buffer::to_host() const {
  std::vector<std::byte> copy(bytes_);
  copy_out(space_, copy.data(), data(), bytes_);
  return copy;
}

Buffer Buffer::copy() const {
  Buffer other(space_, bytes_);
  if (on_device(space_)) {
    gpu::copy_to_device(other.data(), data(), padded_);
  } else {
    std::memcpy(other.data(), data(), padded_);
  }
  return other;
}

}  // namespace attn
