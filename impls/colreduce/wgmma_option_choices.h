// What wgmma_sm90 chooses where query heads share keys or are combined: how many of them a tile and
// a CTA take. Pure functions of shape and device.
#pragma once

#include <algorithm>
#include <cstdint>

#include "impls/colreduce/wgmma_choices.h"

namespace attn::colreduce {

/// Rows of a tile of queries that belong to one head: all, or, where a head has few queries, a
/// power of two at least as large as they are, so that heads that share their keys fill the tile
/// together. A warp's 16 rows are of one head.
constexpr int choose_pack_rows(int tile_rows, std::int64_t queries, std::int64_t sharing) {
  int rows = tile_rows;
  while (rows / 2 >= queries && rows / 2 >= 16 && tile_rows / rows < sharing) rows /= 2;
  return rows;
}

/// What the heads of a column pass are shared out by.
struct HeadSpanShape {
  std::int64_t key_tiles = 1;  ///< stationary tiles of keys over all sequences, one head
  std::int64_t H = 1;          ///< query heads
  std::int64_t sharing = 1;    ///< query heads a key head
  std::int64_t combined = 1;   ///< query heads an output head
  std::int64_t queries = 1;    ///< of a head
  std::int64_t typical = 1;    ///< queries that a key in the middle sees: fewer under a diagonal
  int stream_rows = 128;       ///< of a streamed tile
  bool packs = true;           ///< a streamed tile may hold several heads
  std::int64_t limit = 1;      ///< most parts of an output head that scratch memory holds
  int sm_count = 1;
};

/// Query heads that one CTA reduces one after another: a divisor of `sharing` or a multiple of it,
/// and a divisor of `combined` unless that is 1. Of an output head there are combined / span parts,
/// which are merged where there are several. Minimises the time in units of streamed tiles, as
/// choose_key_splits does; of equals the largest, which loads keys least often. Under a diagonal CTAs take long and
/// short items in turn (index_of_round), so that the longest one or their average decides.
constexpr std::int64_t choose_head_span(const HeadSpanShape& shape) {
  constexpr std::int64_t kItemTiles = 1;   // of a stationary tile: its products start from empty
  constexpr std::int64_t kMergeTiles = 2;  // one more launch
  const auto cost = [&](std::int64_t span) {
    const std::int64_t heads = std::min(span, shape.sharing);  // of an item
    const int pack_rows =
        shape.packs ? choose_pack_rows(shape.stream_rows, shape.queries, heads) : shape.stream_rows;
    const std::int64_t packed = shape.stream_rows / pack_rows;
    const std::int64_t tiles =
        (heads + packed - 1) / packed * ((shape.queries + pack_rows - 1) / pack_rows);
    const std::int64_t chains = shape.key_tiles * (shape.H / span);
    const std::int64_t links = span / heads;
    const std::int64_t longest = links * (tiles + kItemTiles);
    const auto shared_out = [&](std::int64_t work) {
      return (work + shape.sm_count - 1) / shape.sm_count;
    };
    std::int64_t time = shared_out(chains) * longest;
    if (shape.typical < shape.queries) {
      const std::int64_t average = links * (tiles * shape.typical / shape.queries + kItemTiles);
      time = std::max(longest, shared_out(chains * average));
    }
    const bool merges = shape.combined > span;
    return time + (merges ? kMergeTiles : 0);
  };
  const std::int64_t most = shape.combined == 1 ? shape.sharing : shape.combined;
  std::int64_t best = most;
  for (std::int64_t span = most - 1; span >= 1; --span) {
    const bool in_group = shape.sharing % span == 0 || span % shape.sharing == 0;
    const bool in_output = shape.combined == 1 || shape.combined % span == 0;
    if (!in_group || !in_output) continue;
    if (shape.combined > 1 && shape.combined / span > shape.limit) continue;
    if (cost(span) < cost(best)) best = span;
  }
  return best;
}

}  // namespace attn::colreduce
