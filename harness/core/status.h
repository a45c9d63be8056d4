// Outcomes: the status of a row, and a backend's answer to "do you take this problem?".
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace attn {

enum class Status : std::uint8_t {
  kOk,
  kIncorrect,
  kUnchecked,
  kUnsupported,
  kOom,
  kTimeout,
  kCrash,
  kNoisy,
  kNotBuilt
};
inline constexpr std::array<std::string_view, 9> kStatusNames = {
    "OK", "INCORRECT", "UNCHECKED", "UNSUPPORTED", "OOM", "TIMEOUT", "CRASH", "NOISY", "NOT_BUILT"};

constexpr std::string_view name_of(Status status) {
  return kStatusNames[static_cast<std::size_t>(status)];
}

/// Yes, or no with the condition that was not met ("D must be a multiple of 8").
struct Support {
  bool ok = true;
  std::string reason;

  static Support yes() { return {}; }
  static Support no(std::string why) { return {false, std::move(why)}; }
  explicit operator bool() const { return ok; }
};

}  // namespace attn
