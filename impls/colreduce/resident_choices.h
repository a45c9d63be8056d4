// How many CTAs share a head in the row-resident kernels, and how many heads of an output they add up:
// pure functions of the shape and the device.
#pragma once

#include <algorithm>
#include <cstdint>

namespace attn::colreduce {

/// The CTAs of a launch: `teams` heads at a time, `ranks` CTAs each.
struct TeamChoice {
  int ranks = 0;  ///< 0: the keys of a head do not fit on the device
  int teams = 0;
  std::int64_t cost = 0;  ///< rounds of heads times tile_cost
};

/// The time of a tile of CTAs with so many chunks, in quarters of what one chunk more costs; how many CTAs share
/// the head does not count. Fitted to an experiment (run 20261130T123440Z): M = 4096 and four heads a team took 0.0544,
/// 0.0653, 0.0790 and 0.0932 ms with one to four chunks a CTA, a launch and first loads included, which are no tile's.
constexpr std::int64_t tile_cost(std::int64_t chunks) { return 4 * chunks + 9; }

/// Of all numbers of ranks whose CTAs hold the keys of a head (`most_chunks` each), the one that
/// minimises rounds of heads times the time of a tile; of equals the fewest.
constexpr TeamChoice choose_team(std::int64_t heads,
                                 std::int64_t chunks,
                                 std::int64_t sm_count,
                                 std::int64_t most_chunks) {
  TeamChoice best;
  for (std::int64_t ranks = (chunks + most_chunks - 1) / most_chunks;
       ranks <= std::min(sm_count, chunks); ++ranks) {
    const std::int64_t teams = std::min(heads, sm_count / ranks);
    const std::int64_t rounds = (heads + teams - 1) / teams;
    const std::int64_t cost = rounds * tile_cost((chunks + ranks - 1) / ranks);
    if (best.ranks != 0 && cost >= best.cost) continue;
    best = {static_cast<int>(ranks), static_cast<int>(teams), cost};
  }
  return best;
}

/// Heads that are combined, and where their sums may go.
struct SliceShape {
  std::int64_t heads = 1;       ///< query heads, of all batches
  std::int64_t combined = 1;    ///< of an output head
  std::int64_t chunks = 1;      ///< of keys
  std::int64_t tiles = 1;       ///< of queries, of a head
  std::int64_t most_parts = 1;  ///< of an output head that scratch memory holds, at least 1
  std::int64_t sm_count = 1;
  std::int64_t most_chunks = 1;  ///< that a CTA holds
};

/// What a team does: `slice` heads of an output one after the other.
struct SliceChoice {
  TeamChoice team;
  std::int64_t slice = 1;
};

/// Of the divisors of `combined` the one that minimises the time, and of equals the largest: few parts
/// are merged sooner. Parts cost one more launch.
constexpr SliceChoice choose_slice(const SliceShape& shape) {
  constexpr std::int64_t kMergeCost = 32;  // as the rest, of one tile
  SliceChoice best;
  std::int64_t best_cost = 0;
  for (std::int64_t slice = shape.combined; slice >= 1; --slice) {
    const std::int64_t parts = shape.combined / slice;
    if (shape.combined % slice != 0 || parts > shape.most_parts) continue;
    const TeamChoice team =
        choose_team(shape.heads / slice, shape.chunks, shape.sm_count, shape.most_chunks);
    const std::int64_t cost = team.cost * slice * shape.tiles + (parts > 1 ? kMergeCost : 0);
    if (best.team.ranks != 0 && cost >= best_cost) continue;
    best = {team, slice};
    best_cost = cost;
  }
  return best;
}

}  // namespace attn::colreduce
