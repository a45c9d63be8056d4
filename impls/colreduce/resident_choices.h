// How many CTAs share a head in the row-resident kernels: a pure function of the shape and the
// device.
#pragma once

#include <algorithm>
#include <cstdint>

namespace attn::colreduce {

/// The CTAs of a launch: `teams` heads at a time, `ranks` CTAs each.
struct TeamChoice {
  int ranks = 0;  ///< 0: the keys of a head do not fit on the device
  int teams = 0;
};

/// Of all numbers of ranks whose CTAs hold the keys of a head (`most_chunks` each), the one that
/// minimises rounds of heads times the work of a rank; of equals the fewest.
constexpr TeamChoice choose_team(std::int64_t heads,
                                 std::int64_t chunks,
                                 std::int64_t sm_count,
                                 std::int64_t most_chunks) {
  // Work of a rank, in half chunks a tile: its chunks, and what a tile costs besides.
  constexpr std::int64_t kTileCost = 1;
  TeamChoice best;
  std::int64_t best_cost = 0;
  for (std::int64_t ranks = (chunks + most_chunks - 1) / most_chunks;
       ranks <= std::min(sm_count, chunks); ++ranks) {
    const std::int64_t teams = std::min(heads, sm_count / ranks);
    const std::int64_t rounds = (heads + teams - 1) / teams;
    const std::int64_t cost = rounds * (2 * ((chunks + ranks - 1) / ranks) + kTileCost);
    if (best.ranks != 0 && cost >= best_cost) continue;
    best = {static_cast<int>(ranks), static_cast<int>(teams)};
    best_cost = cost;
  }
  return best;
}

}  // namespace attn::colreduce
