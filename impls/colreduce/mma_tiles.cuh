// How the tensor-core passes cut a problem up: tile sizes, and the items that CTAs work through.
#pragma once

#include <cstdint>

#include "impls/colreduce/mma_sm80.h"
#include "reference/attention_mask.h"

namespace attn::colreduce {

/// Tile sizes. A warp holds kRowTiles x 16 stationary rows as A fragments; kRowWarps of them make
/// the stationary tile, and kColumnWarps warps share each streamed tile by columns.
template <int kD_,
          int kRowTiles_,
          int kRowWarps_,
          int kColumnWarps_,
          int kStreamRows_,
          int kChunk_,
          int kStages_,
          int kCtasPerSm_>
struct MmaPolicy {
  static constexpr int kD = kD_;  // head dimension, zero-padded
  static constexpr int kRowTiles = kRowTiles_;
  static constexpr int kRowWarps = kRowWarps_;
  static constexpr int kColumnWarps = kColumnWarps_;
  static constexpr int kStreamRows = kStreamRows_;  // rows of a slot
  static constexpr int kChunk = kChunk_;            // columns whose scores a warp holds at a time
  static constexpr int kStages = kStages_;
  static constexpr int kCtasPerSm = kCtasPerSm_;

  static constexpr int kThreads = 32 * kRowWarps * kColumnWarps;
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kWarpRows * kRowWarps;
  static constexpr int kWarpColumns = kStreamRows / kColumnWarps;
  static constexpr int kStationarySlots = (kRows + kStreamRows - 1) / kStreamRows;
  // One 16-byte piece of padding: the eight rows of an 8 x 8 matrix then lie in eight different
  // 16-byte bank groups, and ldmatrix addresses stay base + constant, unlike an XOR swizzle's.
  static constexpr int kPitchBytes = 2 * kD + 16;
  static constexpr int kSlotBytes = kStreamRows * kPitchBytes;

  static_assert(kD % 16 == 0, "an mma step takes 16 components");
  static_assert(kWarpColumns % kChunk == 0 && kChunk % 16 == 0, "an ldmatrix.x4 covers 16 columns");
  static_assert(kStreamRows % kWarpRows == 0, "the rows of a warp lie in one slot");
  static_assert(kThreads % (kD / 8) == 0, "a sweep of the CTA copies whole rows");
};

/// Half-open range of streamed rows that a stationary row sees.
struct Interval {
  std::int64_t begin;
  std::int64_t end;
};

/// One item: which rows stand still, which tiles stream past. The same for all threads.
struct Item {
  std::uint32_t head;  // b * H + h
  std::uint32_t part;  // split * B * H + head: where a row pass writes
  int first_row;       // of the stationary tile
  int tile_begin;      // streamed tiles of this item
  int tile_end;
  int full_begin;  // of these, the tiles that every stationary row sees entirely
  int full_end;
};

template <class Policy, class Pass>
__device__ Item decode(const PassArguments& args, std::uint32_t index) {
  Item item;
  if (args.backwards) index = args.items - 1 - index;
  const std::uint32_t rest = index / args.tiles;
  item.first_row = static_cast<int>(index % args.tiles) * Policy::kRows;
  item.head = rest / args.splits;
  const std::uint32_t split = rest % args.splits;
  item.part = split * args.heads + item.head;

  // Ends of visible ranges only grow with the row (AttentionMask), so the first and the last row
  // bound both what some row sees and what all rows see.
  constexpr int kTile = Policy::kStreamRows;
  const int last_row = min(item.first_row + Policy::kRows, args.stationary.rows) - 1;
  const Interval first = Pass::visible(args.mask, item.first_row);
  const Interval last = Pass::visible(args.mask, last_row);
  const int begin = static_cast<int>(first.begin) / kTile;
  const int end = static_cast<int>((last.end + kTile - 1) / kTile);
  const std::uint32_t tiles = (max(end - begin, 0) + args.splits - 1) / args.splits;
  item.tile_begin = begin + static_cast<int>(split * tiles);
  item.tile_end = max(min(item.tile_begin + static_cast<int>(tiles), end), item.tile_begin);
  item.full_begin = static_cast<int>((last.begin + kTile - 1) / kTile);
  item.full_end = static_cast<int>(first.end) / kTile;
  return item;
}

}  // namespace attn::colreduce
