// How many CTAs of a cluster may share a token by columns.
#pragma once

namespace attn::attnres {

inline constexpr int kMostRanks = 8;  ///< more are not portable: every device of sm_90 takes these

}  // namespace attn::attnres
