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

/// Query m of M sees key n of N when m + left <= n <= m + diagonal.
///
/// `none` is the diagonal N (no query is cut), `causal` is right-aligned (diagonal N - M: the last
/// query sees the last key; with M > N the first M - N queries see nothing), `causal_top_left` has
/// diagonal 0. A sliding window of extent w, also right-aligned, has left N - M - w. A row's visible
/// keys are an interval [key_begin, key_end), a key's queries an interval [query_begin, query_end);
/// where nobody is visible, the end may lie before the begin.
struct AttentionMask {
  /// A left bound that cuts no key, and leaves room for sums with sizes.
  static constexpr std::int64_t kUnlimited = -(std::int64_t{1} << 62);

  std::int64_t M = 1;
  std::int64_t N = 1;
  std::int64_t diagonal = 1;
  std::int64_t left = kUnlimited;

  /// `window` is the left extent of a sliding window; -1 means none.
  static constexpr AttentionMask make(Mask mask,
                                      std::int64_t M,
                                      std::int64_t N,
                                      std::int64_t window = -1) {
    const std::int64_t diagonal = mask == Mask::kNone ? N : mask == Mask::kCausal ? N - M : 0;
    const bool cuts = window >= 0 && window < M + N;
    return {M, N, diagonal, cuts ? N - M - window : kUnlimited};
  }

  ATTN_HOST_DEVICE constexpr bool visible(std::int64_t m, std::int64_t n) const {
    return n <= m + diagonal && n >= m + left;
  }
  /// First key that the window leaves to query m, in [0, N].
  ATTN_HOST_DEVICE constexpr std::int64_t key_begin(std::int64_t m) const {
    const std::int64_t begin = m + left;
    return begin < 0 ? 0 : begin > N ? N : begin;
  }
  /// Behind the last key that query m sees, in [0, N].
  ATTN_HOST_DEVICE constexpr std::int64_t key_end(std::int64_t m) const {
    const std::int64_t end = m + diagonal + 1;
    return end < 0 ? 0 : end > N ? N : end;
  }
  /// First query that sees key n, in [0, M]; M when none does.
  ATTN_HOST_DEVICE constexpr std::int64_t query_begin(std::int64_t n) const {
    const std::int64_t begin = n - diagonal;
    return begin < 0 ? 0 : begin > M ? M : begin;
  }
  /// Behind the last query whose window reaches key n, in [0, M].
  ATTN_HOST_DEVICE constexpr std::int64_t query_end(std::int64_t n) const {
    const std::int64_t end = n - left + 1;
    return end < 0 ? 0 : end > M ? M : end;
  }
};

}  // namespace attn
