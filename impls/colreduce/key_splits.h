// How many parts the keys are cut into where queries are few: a pure function of the shape and the
// device.
#pragma once

#include <algorithm>
#include <cstdint>

namespace attn::colreduce {

/// What the choice depends on.
struct KeySplitShape {
  std::int64_t items = 1;      ///< stationary tiles of queries over all heads
  std::int64_t key_tiles = 1;  ///< streamed tiles of keys a head
  std::int64_t slots = 1;      ///< CTAs that the device holds at once
  std::int64_t limit = 1;      ///< most parts, for example those whose results scratch memory holds
  bool merge = true;           ///< the parts' results must be merged afterwards
  // Costs besides, in streamed tiles; mma_sm80's:
  std::int64_t part_tiles = 3;   ///< of a part: loading the queries, combining the warps
  std::int64_t merge_tiles = 4;  ///< of the merge: one more launch
};

/// The number of parts, at least 1, that minimises the time of a pass in units of streamed tiles:
/// rounds of CTAs times tiles of one part, plus what each part and the merge cost besides. Of
/// equals the fewest.
constexpr int choose_key_splits(const KeySplitShape& shape) {
  const auto cost = [&](std::int64_t splits) {
    const std::int64_t rounds = (shape.items * splits + shape.slots - 1) / shape.slots;
    const std::int64_t tiles = (shape.key_tiles + splits - 1) / splits;
    return rounds * (tiles + shape.part_tiles) +
           (splits > 1 && shape.merge ? shape.merge_tiles : 0);
  };
  // More parts than fill the device four times only add to the cost of parts.
  const std::int64_t useful = 4 * shape.slots / std::max<std::int64_t>(shape.items, 1);
  const std::int64_t most = std::min({shape.limit, shape.key_tiles, useful});
  std::int64_t best = 1;
  for (std::int64_t splits = 2; splits <= most; ++splits)
    if (cost(splits) < cost(best)) best = splits;
  return static_cast<int>(best);
}

}  // namespace attn::colreduce
