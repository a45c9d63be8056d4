// How bulk_sm90 spreads a token over threads, CTAs and shared memory: chosen on the host, by arithmetic
// alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "harness/core/backend.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres_phase1_bwd {

inline constexpr int kLayoutWarps = 16;  ///< of an SM: 128 registers for each of their threads
inline constexpr int kLayoutRanks = 8;   ///< CTAs of a cluster, at most: more are not portable
inline constexpr int kLayoutQueries = 16;
inline constexpr int kLayoutSources = 64;
inline constexpr int kLayoutStages =
    6;  ///< at most: what is under way beyond them, nobody waits for
inline constexpr int kTileSources = 4;  ///< that a thread handles together

/// A token's sources in tiles of up to four, as equal as can be.
struct SourceTiles {
  int count = 0;
  int least = 0;   ///< sources of a tile
  int longer = 0;  ///< tiles, the first ones, that have one more

  static constexpr SourceTiles of(int sources) {
    const int count = (sources + kTileSources - 1) / kTileSources;
    return {count, sources / count, sources % count};
  }
  constexpr int size(int tile) const { return least + (tile < longer ? 1 : 0); }
  constexpr int first(int tile) const { return tile * least + (tile < longer ? tile : longer); }
  constexpr int tile_of(int source) const {
    int tile = 0;
    while (source >= first(tile + 1)) ++tile;
    return tile;
  }
};

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

/// Sums of a pass that a cluster's CTAs exchange: three of every lane's first and second source.
inline constexpr int kPassSums = 3 * 64;

/// Where things lie in a CTA's shared memory, in bytes. Stages come first.
struct BulkMemory {
  int pitch = 0;        ///< between rows of a stage, an odd multiple of 16
  int held_pitch = 0;   ///< between rows of gradients that are added to
  int held = 0;         ///< their offset in a stage
  int stage_bytes = 0;  ///< rows of N sources, of dout, of held gradients
  int sums = 0;         ///< [warps, 2 S + 1, N rounded up to 8] of the warps
  int warp_sums = 0;    ///< bytes of a warp's
  int weights = 0;      ///< [2, tiles, queries, 2, 4]: weights, and logit gradients times r
  int norms = 0;        ///< [2, passes, tiles, 4]: what the sources' norms give back
  int exchange = 0;     ///< [passes, 2, ranks, kPassSums]
  int barriers = 0;     ///< [stages] of copies, then [passes, 2] of the exchange
  int bytes = 0;
};

struct BulkLayout {
  int ranks = 0;    ///< CTAs of a cluster, which share a token's columns; 0: nothing fits
  int queries = 0;  ///< that the kernel is compiled for: S rounded up
  int columns = 0;  ///< of a thread, 2 or 4
  int warps = 0;
  int stages = 0;
  int ctas = 0;  ///< of an SM
  bool ahead =
      false;  ///< a token's products and weights come while the one before has its gradients
  BulkMemory memory{};
};

/// Queries of the smallest kernel for S of them, up to kLayoutQueries.
int bulk_queries(std::int64_t S);

/// The smallest cluster whose registers and shared memory hold a token, but larger where there are fewer
/// tokens than SMs. The problem has a type and sizes that kernels are compiled for.
BulkLayout choose_layout(const AttnResPhase1Bwd::Problem& p, const DeviceInfo& device);

/// Clusters that there is work and room for, at most.
std::int64_t most_clusters(const AttnResPhase1Bwd::Problem& p,
                           const BulkLayout& layout,
                           const DeviceInfo& device);

/// What bulk_sm90 takes: pure.
Support bulk_supports(const AttnResPhase1Bwd::Problem& p, const DeviceInfo& device);

/// For a row of results: "2 CTAs a cluster, 16 warps of 4 columns a thread, 3 stages, one ahead".
std::string describe(const BulkLayout& layout);

}  // namespace attn::attnres_phase1_bwd
