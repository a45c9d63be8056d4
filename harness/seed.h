// Stable hashes of text: data seeds and row keys. The same on every machine and in every build.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace attn {

/// FNV-1a, 64 bit (Fowler, Noll, Vo), continued from `state`.
constexpr std::uint64_t fnv1a(std::string_view text, std::uint64_t state = 0xcbf29ce484222325ull) {
  for (const char c : text) {
    state ^= static_cast<unsigned char>(c);
    state *= 0x100000001b3ull;
  }
  return state;
}

/// Generator key of one tensor's data: from the run's seed, the case and the tensor's name.
constexpr std::uint64_t tensor_key(std::uint64_t seed,
                                   std::string_view case_id,
                                   std::string_view tensor) {
  return fnv1a(tensor, fnv1a(case_id)) + seed * 0x9E3779B97F4A7C15ull;
}

inline std::string hex(std::uint64_t value) {
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; value >>= 4) text[i] = "0123456789abcdef"[value & 15];
  return text;
}

}  // namespace attn
