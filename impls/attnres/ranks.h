// How many CTAs of a cluster may share a token by columns, and what they need to tell each other their sums.
#pragma once

namespace attn::attnres {

inline constexpr int kMostRanks = 8;  ///< more are not portable: every device of sm_90 takes these
/// Floats of a team's slots, for `count` sums, an even number.
constexpr int exchange_floats(int ranks, int count) { return ranks == 1 ? 0 : 2 * ranks * count; }

}  // namespace attn::attnres
