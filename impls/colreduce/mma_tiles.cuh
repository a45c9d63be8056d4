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

/// Which tiles of streamed rows an item takes.
struct TileRange {
  int tile_begin;  // streamed tiles of this item
  int tile_end;
  int full_begin;  // of these, the tiles that every stationary row sees entirely
  int full_end;
};

/// One item: which rows stand still, which tiles stream past. The same for all threads.
struct Item : TileRange {
  std::uint32_t head;  // b * H + h
  std::uint32_t part;  // split * B * H + head: where a row pass writes
  int first_row;       // of the stationary tile

  /// Heads whose rows stand still one after the other.
  static constexpr std::uint32_t heads() { return 1; }
};

/// The tiles of part `split` of `splits` for the stationary tile from `first_row`, of `rows` rows.
template <class Policy, class Pass>
__device__ TileRange tiles_seen(
    const AttentionMask& mask, int first_row, int rows, std::uint32_t split, std::uint32_t splits) {
  // Both ends of visible ranges only grow with the row (AttentionMask), so the first and the last
  // row bound both what some row sees and what all rows see.
  constexpr int kTile = Policy::kStreamRows;
  TileRange range;
  const int last_row = min(first_row + Policy::kRows, rows) - 1;
  const Interval first = Pass::visible(mask, first_row);
  const Interval last = Pass::visible(mask, last_row);
  const int begin = static_cast<int>(first.begin) / kTile;
  const int end = static_cast<int>((last.end + kTile - 1) / kTile);
  const std::uint32_t tiles = (max(end - begin, 0) + splits - 1) / splits;
  range.tile_begin = begin + static_cast<int>(split * tiles);
  range.tile_end = max(min(range.tile_begin + static_cast<int>(tiles), end), range.tile_begin);
  range.full_begin = static_cast<int>((last.begin + kTile - 1) / kTile);
  range.full_end = static_cast<int>(first.end) / kTile;
  return range;
}

template <class Policy, class Pass>
__device__ Item decode(const PassArguments& args, std::uint32_t index) {
  Item item;
  if (args.backwards) index = args.items - 1 - index;
  const std::uint32_t rest = index / args.tiles;
  item.first_row = static_cast<int>(index % args.tiles) * Policy::kRows;
  item.head = rest / args.splits;
  const std::uint32_t split = rest % args.splits;
  item.part = split * args.heads + item.head;
  static_cast<TileRange&>(item) =
      tiles_seen<Policy, Pass>(args.mask, item.first_row, args.stationary.rows, split, args.splits);
  return item;
}

// What the streaming kernel asks of an item and its heads: here of a plain problem, in
// mma_options.cuh of the others.

/// The rows of one head of an operand: where they begin, in elements, and how many there are.
struct HeadRows {
  std::int64_t offset;
  int rows;
};

/// What a loader remembers of the head whose rows stream past.
struct StreamedHead {
  std::uint32_t head;  // b * H + h
};

__device__ inline const AttentionMask& mask_of(const PassArguments& args, const Item&) {
  return args.mask;
}

/// Slots in which the stationary rows of an item's head number `head` arrive.
template <class Policy, class Pass>
__device__ constexpr int stationary_slots(const PassArguments&, const Item&, std::uint32_t) {
  return Policy::kStationarySlots;
}

template <class Pass>
__device__ StreamedHead streamed_head(const PassArguments&, const Item& item, std::uint32_t) {
  return {item.head};
}

__device__ inline HeadRows rows_of_head(const PassArguments& args,
                                        const PassOperand& operand,
                                        std::uint32_t head) {
  const std::int64_t b = head / args.H;
  const std::int64_t h = head % args.H / operand.sharing;
  return {b * operand.batch_stride + h * operand.head_stride, operand.rows};
}

template <class Pass>
__device__ HeadRows stationary_rows(const PassArguments& args, const Item& item, std::uint32_t) {
  return rows_of_head(args, args.stationary, item.head);
}

__device__ inline HeadRows streamed_rows(const PassArguments& args, const StreamedHead& head) {
  return rows_of_head(args, args.stream, head.head);
}

/// The lse of the streamed queries.
__device__ inline const float* streamed_lse(const PassArguments& args, const StreamedHead& head) {
  return args.lse_log2 + static_cast<std::int64_t>(head.head) * args.stream.rows;
}

__device__ inline int streamed_count(const PassArguments& args, const StreamedHead&) {
  return args.stream.rows;
}

/// Where a row pass writes the lse of an item's first row.
__device__ inline float* stationary_lse(const PassArguments& args, const Item& item) {
  return args.lse_log2 + static_cast<std::int64_t>(item.part) * args.stationary.rows +
         item.first_row;
}

__device__ inline int stationary_count(const PassArguments& args, const Item&) {
  return args.stationary.rows;
}

template <class Chunk>
__device__ void cap_scores(const PassArguments&, Chunk&) {}

}  // namespace attn::colreduce
