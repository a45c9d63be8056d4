// Which keys a query sees: the only definition of masks, for oracles, kernels and work models.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "harness/core/host_device.h"

namespace attn {

enum class Mask : std::uint8_t { kNone, kCausal, kCausalTopLeft };
inline constexpr std::array<std::string_view, 3> kMaskNames = {"none", "causal", "causal_top_left"};

/// Rows [begin, end) of a sequence.
struct RowRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  ATTN_HOST_DEVICE constexpr std::int64_t count() const { return end - begin; }
};

/// Query m of M sees key n of N when n <= m + diagonal.
///
/// `none` is the diagonal N (no query is cut), `causal` is right-aligned (diagonal N - M: the last
/// query sees the last key; with M > N the first M - N queries see nothing), `causal_top_left` has
/// diagonal 0. A row's visible keys are a prefix [0, key_end), a key's queries a suffix
/// [query_begin, M).
struct AttentionMask {
  std::int64_t M = 1;
  std::int64_t N = 1;
  std::int64_t diagonal = 1;

  static constexpr AttentionMask make(Mask mask, std::int64_t M, std::int64_t N) {
    const std::int64_t diagonal = mask == Mask::kNone ? N : mask == Mask::kCausal ? N - M : 0;
    return {M, N, diagonal};
  }

  ATTN_HOST_DEVICE constexpr bool visible(std::int64_t m, std::int64_t n) const {
    return n <= m + diagonal;
  }
  /// Number of keys that query m sees, in [0, N].
  ATTN_HOST_DEVICE constexpr std::int64_t key_end(std::int64_t m) const {
    const std::int64_t end = m + diagonal + 1;
    return end < 0 ? 0 : end > N ? N : end;
  }
  /// First query that sees key n, in [0, M]; M when none does.
  ATTN_HOST_DEVICE constexpr std::int64_t query_begin(std::int64_t n) const {
    const std::int64_t begin = n - diagonal;
    return begin < 0 ? 0 : begin > M ? M : begin;
  }
};

}  // namespace attn
