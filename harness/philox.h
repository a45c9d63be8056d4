// Philox4x32-10, a counter-based generator: the same bits from the same counter on CPU and GPU.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once

#include <cstdint>

#include "harness/core/host_device.h"

namespace attn {

struct PhiloxBlock {
  std::uint32_t word[4];
};

/// 128 random bits for the 128-bit counter {c0, c1} under the 64-bit key.
ATTN_HOST_DEVICE inline PhiloxBlock philox(std::uint64_t c0, std::uint64_t c1, std::uint64_t key) {
  PhiloxBlock x{{static_cast<std::uint32_t>(c0), static_cast<std::uint32_t>(c0 >> 32),
                 static_cast<std::uint32_t>(c1), static_cast<std::uint32_t>(c1 >> 32)}};
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * x.word[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * x.word[2];
    x = {{static_cast<std::uint32_t>(b >> 32) ^ x.word[1] ^ k0, static_cast<std::uint32_t>(b),
          static_cast<std::uint32_t>(a >> 32) ^ x.word[3] ^ k1, static_cast<std::uint32_t>(a)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return x;
}

}  // namespace attn
