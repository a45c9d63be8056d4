// The hash of one 32-bit word at its position; buffers are hashed by the sum over their words, which
// is the same in any order and so on CPU and GPU.
#pragma once

#include <cstdint>

#include "harness/core/host_device.h"

namespace attn {

ATTN_HOST_DEVICE inline std::uint64_t hash_word(std::uint32_t word, std::uint64_t index) {
  std::uint64_t x = (index << 32 | word) * 0x9E3779B97F4A7C15ull;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9ull;
  return x ^ (x >> 32);
}

}  // namespace attn
