// Which kernel of the mix keeps a token's rows in registers, and over how many CTAs: arithmetic alone.
#pragma once

#include <cstdint>

#include "harness/core/dtype.h"
#include "impls/attnres/ranks.h"

namespace attn::attnres {

inline constexpr int kHeldThreads = 512;  ///< of a CTA at most: 128 registers for each

inline constexpr int kMostHeldSources = 16;

/// What a read moves, as far as the choice depends on it.
struct HeldNeeds {
  std::int64_t tokens, N, D;
  DType dtype;
};

/// Of a mix or its backward.
template <class Problem>
HeldNeeds held_needs(const Problem& p) {
  return {.tokens = p.tokens(), .N = p.N, .D = p.D, .dtype = p.dtype};
}

/// A thread has eight columns of every row of a token.
struct HeldLayout {
  int sources = 0;  ///< that the kernel is compiled for, at least N; 0: no kernel holds the rows
  int ranks = 1;    ///< CTAs that share a token by columns
  int threads = 0;  ///< of each
};

/// The smallest number of sources that a kernel is compiled for and that is at least N; 0 where there is none.
int held_sources(std::int64_t N, DType dtype);

/// A token in one CTA.
HeldLayout choose_held(const HeldNeeds& needs);

/// A token in a cluster of 2, 4 or 8 CTAs: as many as its columns need, and more while tokens are too few
/// for the SMs and every CTA keeps two warps.
HeldLayout choose_cluster(const HeldNeeds& needs, int sm_count);

/// Whether a cluster is the better choice where both can be had: never, unless half of the SMs would have
/// no token.
bool prefers_cluster(const HeldNeeds& needs, int sm_count);

}  // namespace attn::attnres
