// Names of the input families that correctness cells and timings draw their data from.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace attn {

enum class InputFamily : std::uint8_t {
  kNormal,    ///< sigma 1
  kUniform,   ///< [-sqrt(3), sqrt(3)): sigma 1
  kPeaked,    ///< normal, sigma 4: rows dominated by few keys
  kNeg,       ///< every score negative, so that a zero-padded key would dominate
  kTail,      ///< as kNeg, but the keys of the last partial tile are positive and dominate
  kOneHot,    ///< row i is a multiple of unit vector i mod D: weights are known exactly
  kAllEqual,  ///< all elements equal: every visible key has the same weight
};
inline constexpr std::array<std::string_view, 7> kInputFamilyNames = {
    "normal", "uniform", "peaked", "neg", "tail", "one_hot", "all_equal"};

/// Whether times of this data may be compared: constants run faster than random data.
constexpr bool is_random(InputFamily family) {
  return family != InputFamily::kOneHot && family != InputFamily::kAllEqual;
}

}  // namespace attn
