// Which tiles of streamed rows a tile of stationary rows needs: what the mask leaves of them.
#pragma once

#include <cstdint>

#include "harness/core/host_device.h"
#include "reference/attention_mask.h"

namespace attn::colreduce {

/// Tiles [begin, end) of a streamed axis; begin <= end.
struct TileRange {
  int begin = 0;
  int end = 0;
  ATTN_HOST_DEVICE constexpr int count() const { return end - begin; }
};

/// Those of `tile` rows that hold any of rows [begin, end), which may be reversed: then none.
ATTN_HOST_DEVICE constexpr TileRange tiles_of_rows(std::int64_t begin, std::int64_t end, int tile) {
  if (begin >= end) return {};
  return {static_cast<int>(begin / tile), static_cast<int>((end + tile - 1) / tile)};
}

/// Tiles of keys that hold all that queries [first, last] see. Ends of visible ranges only grow with
/// the row (AttentionMask): the first and the last row bound what some row sees.
ATTN_HOST_DEVICE constexpr TileRange key_tiles(const AttentionMask& mask,
                                               std::int64_t first,
                                               std::int64_t last,
                                               int tile) {
  return tiles_of_rows(mask.key_begin(first), mask.key_end(last), tile);
}

/// Tiles of queries that hold all that see keys [first, last].
ATTN_HOST_DEVICE constexpr TileRange query_tiles(const AttentionMask& mask,
                                                 std::int64_t first,
                                                 std::int64_t last,
                                                 int tile) {
  return tiles_of_rows(mask.query_begin(first), mask.query_end(last), tile);
}

}  // namespace attn::colreduce
