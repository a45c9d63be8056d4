// How bulk_sm90 spreads a token over warps, CTAs and shared memory: chosen on the host, by arithmetic
// alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "harness/core/backend.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres_phase1_bwd {

inline constexpr int kLayoutWarps = 16;  ///< of a CTA that find gradients, in whole warpgroups
inline constexpr int kProductWarps = 3;  ///< that find products and weights
inline constexpr int kOtherWarps = kProductWarps + 1;  ///< and one that copies: a warpgroup
inline constexpr int kSmWarps = kLayoutWarps + kOtherWarps;
inline constexpr int kLayoutQueries = 16;
inline constexpr int kLayoutSources = 64;
inline constexpr int kLayoutStages =
    6;  ///< at most: what is under way beyond them, nobody waits for
inline constexpr int kTileSources = 8;    ///< whose gradients a warp finds together
inline constexpr int kBlockColumns = 32;  ///< that a warp handles together

/// The lanes of a warp over the sources of as many queries as there are lanes for: a pass.
struct WeightLanes {
  int width_log2 = 0;  ///< lanes of a query; of more than 32 sources each has two

  static constexpr WeightLanes of(int sources) {
    int log2 = 0;
    while (log2 < 5 && 1 << log2 < sources) ++log2;
    return {log2};
  }
  constexpr int queries() const { return 32 >> width_log2; }
  constexpr int passes(int S) const { return (S + queries() - 1) >> (5 - width_log2); }
};

/// The steps of the products, of a block's columns each, that a warp of kProductWarps takes.
struct StepShare {
  int first, count;

  /// Whole groups of steps but for a row's last. Warps below `passes` also have a pass of the weights and
  /// therefore fewer, of up to eight sources by two groups: a pass is two and a half by its instructions,
  /// which are dependent; of more sources a group takes as much longer.
  static constexpr StepShare of(int steps, int sources, int passes, int warp) {
    constexpr int kGroupSteps = 4;
    constexpr int kPassGroups = 2;
    const int fewer = kPassGroups / ((sources + 7) / 8);
    const int groups = (steps + kGroupSteps - 1) / kGroupSteps;
    // Not by std::min: device code has no constant that it could refer to.
    const int burdened = passes < kProductWarps ? passes : kProductWarps;
    const int all = groups + fewer * burdened;
    const auto before = [&](int w) {  // steps of the warps before w
      const int even = w * all / kProductWarps;
      return std::min(steps, kGroupSteps * std::max(0, even - fewer * std::min(w, passes)));
    };
    return {before(warp), before(warp + 1) - before(warp)};
  }
};

/// Sums of a pass that a cluster's CTAs exchange: three of every lane's first and second source.
inline constexpr int kPassSums = 3 * 64;

/// Where things lie in a CTA's shared memory, in bytes. Stages come first.
struct BulkMemory {
  int pitch = 0;        ///< between rows of a stage and queries, an odd multiple of 16
  int held_pitch = 0;   ///< between rows of gradients that are added to
  int held = 0;         ///< their offset in a stage
  int stage_bytes = 0;  ///< rows of N sources, of S dout, of held gradients
  int queries = 0;      ///< [S] rows
  int padded = 0;       ///< not bytes: sources, rounded up to fours
  int sums = 0;         ///< [product warps, 2 S + 1, padded] of the warps
  int warp_sums = 0;    ///< bytes of a warp's
  int weights = 0;      ///< [2, padded, 4, 2, queries / 4]: weights, and logit gradients times r
  int norms = 0;        ///< [2, passes, padded]: what the sources' norms give back
  int outputs = 0;      ///< [N] of SourceOutput
  int exchange = 0;     ///< [passes, 2, ranks, kPassSums]
  int barriers = 0;  ///< [stages] full, [stages] free, [2] ready, then [passes, 2] of the exchange
  int bytes = 0;
};

struct BulkLayout {
  int ranks = 0;    ///< CTAs of a cluster, which share a token's columns; 0: nothing fits
  int queries = 0;  ///< that the kernel is compiled for: S rounded up to fours
  int blocks = 0;   ///< of 32 columns, of a warp
  int warps = 0;    ///< that find gradients
  int stages = 0;
  int ctas = 0;  ///< of an SM
  BulkMemory memory{};

  int threads() const { return 32 * (warps + kOtherWarps); }
};

/// Queries of the smallest kernel for S of them, up to kLayoutQueries.
int bulk_queries(std::int64_t S);

/// Blocks that a warp may have: registers hold the queries' gradient there.
int most_blocks(int queries);

/// The smallest cluster whose registers and shared memory hold a token, but larger where there are fewer
/// tokens than SMs. The problem has a type and sizes that kernels are compiled for.
BulkLayout choose_layout(const AttnResPhase1Bwd::Problem& p, const DeviceInfo& device);

/// Clusters that there is work and room for, at most.
std::int64_t most_clusters(const AttnResPhase1Bwd::Problem& p,
                           const BulkLayout& layout,
                           const DeviceInfo& device);

/// What bulk_sm90 takes: pure.
Support bulk_supports(const AttnResPhase1Bwd::Problem& p, const DeviceInfo& device);

/// For a row of results: "2 CTAs a cluster, 16 warps of 4 blocks, 3 stages".
std::string describe(const BulkLayout& layout);

}  // namespace attn::attnres_phase1_bwd
