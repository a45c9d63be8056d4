// How the wgmma passes lie in shared memory, and the loads that keep it full: a work list for the
// copy engine, walked by whichever thread finds a buffer empty.
#pragma once

#include <cstdint>

#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/colreduce/wgmma_sm90.h"

namespace attn::colreduce {

/// Tile sizes. Four warpgroups hold 64 stationary rows each as A registers. A warpgroup computes
/// scores with kChunk streamed rows at a time, in kBuffers accumulators, of which all but one are
/// under way while it works on that one; after kRun tiles it lets them run dry. kOrdered:
/// warpgroups take turns to issue their products.
template <int kD_,
          int kStreamRows_,
          int kStages_,
          int kChunk_,
          int kBuffers_,
          int kRun_,
          bool kOrdered_>
struct WgmmaPolicy {
  static constexpr int kD = kD_;  // head dimension, zero-padded
  static constexpr int kStreamRows = kStreamRows_;
  static constexpr int kStages = kStages_;
  static constexpr int kChunk = kChunk_;
  static constexpr int kBuffers = kBuffers_;
  static constexpr int kRun = kRun_;
  static constexpr bool kOrdered = kOrdered_;

  static constexpr int kRows = kWgmmaRows;
  static constexpr int kWarps = kRows / 16;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kBoxes = kD / kBoxColumns;
  static constexpr int kSteps = kD / 16;  // of a product
  static constexpr int kChunks = kStreamRows / kChunk;
  // One more than stages: a tile's lse is still read when its stage has been given back.
  static constexpr int kLseSlots = kStages + 1;

  static_assert(kD % kBoxColumns == 0, "boxes are 128 bytes wide");
  static_assert(kRows <= 256 && kStreamRows <= 256, "a box has at most 256 rows");
  static_assert(kStreamRows % kChunk == 0 && kChunk % 64 == 0, "chunks tile a streamed tile");
  static_assert(kStages > kRun, "a run's tiles land without one of them being given back");
};

/// A stationary tile with the streamed tiles that pass it. The same for all threads.
struct alignas(16) WgmmaItem {
  std::uint32_t head;  // b * H + h
  std::uint32_t part;  // split * B * H + head: where a row pass writes
  int first_row;       // of the stationary tile
  int tile_begin;      // first streamed tile
  int tiles;           // streamed tiles; negative: there is no such item, the CTA has finished
  // Coordinates of the head in both operands' tensor maps, before their steps.
  int batch;
  int stationary_head;
  int stream_head;
};

/// What a CTA's threads share besides tiles. Indices in the comments count from the launch on.
template <class Policy>
struct WgmmaControl {
  std::uint64_t full[Policy::kStages];  // mbarrier: use u of a stage has landed in phase u
  std::uint64_t stationary_full;        // mbarrier: stationary tile i in phase i, and item[i % 2]
  std::uint32_t released[Policy::kStages];  // warps that have read this use of a stage
  std::uint32_t stationary_released;
  std::uint32_t known_rounds;  // items decoded so far: the youngest is the one before
  WgmmaItem item[2];           // the CTA's item i at i % 2
  // The next tile to stream: written by one thread after another, see Loader.
  WgmmaItem stream;     // tiles: those left; tile_begin: the next
  std::uint32_t round;  // of the item after that
  std::uint32_t lse_slot;
  // Which items are this CTA's. Here and not in registers, which scores need.
  std::uint32_t cta;
  std::uint32_t ctas;
};

/// Byte offsets in dynamic shared memory.
template <class Policy, class Pass>
struct WgmmaLayout {
  static constexpr int kStationaryBytes = Policy::kRows * Policy::kD * 2;
  static constexpr int kTileBytes = Policy::kStreamRows * Policy::kD * 2;
  static constexpr int kLseBytes =
      Pass::kReadsLse ? Policy::kStreamRows * static_cast<int>(sizeof(float)) : 0;
  static constexpr int kRing = kStationaryBytes;
  static constexpr int kLse = kRing + Policy::kStages * kTileBytes;
  static constexpr int kControl = kLse + Policy::kLseSlots * kLseBytes;
  static constexpr int kBytes = kControl + static_cast<int>(sizeof(WgmmaControl<Policy>));
  static_assert(kTileBytes % 1024 == 0, "swizzled tiles repeat every 1024 bytes");
  static_assert(kBytes <= 227 * 1024, "what a CTA may have on sm_90");
};

/// Writes item `index`, or none (tiles = -1) past the last. Field by field to shared memory:
/// callers hold their scores in registers.
template <class Policy, class Pass>
__device__ void decode_item(const WgmmaArguments& args, std::uint32_t index, WgmmaItem& item) {
  if (index >= args.items) {
    item.tiles = -1;
    return;
  }
  const ItemPlace place = place_of(args.order, index);
  item.head = place.head;
  const std::uint32_t b = place.head / args.H;
  const std::uint32_t h = place.head - b * args.H;
  item.batch = static_cast<int>(b);
  item.stationary_head = static_cast<int>(h / args.stationary.sharing);
  item.stream_head = static_cast<int>(h / args.stream.sharing);
  const std::uint32_t tile = place.unit / args.splits;
  const auto split = static_cast<int>(place.unit - tile * args.splits);
  item.part = static_cast<std::uint32_t>(split) * args.order.heads + place.head;
  const int first_row = static_cast<int>(tile) * Policy::kRows;
  item.first_row = first_row;

  // Ends of visible ranges only grow with the row (AttentionMask): the first and the last row bound
  // what some row sees.
  constexpr int kTile = Policy::kStreamRows;
  const int last_row = min(first_row + Policy::kRows, args.rows) - 1;
  const int begin = static_cast<int>(Pass::visible(args.mask, first_row).begin) / kTile;
  const int end = (static_cast<int>(Pass::visible(args.mask, last_row).end) + kTile - 1) / kTile;
  const int splits = static_cast<int>(args.splits);
  const int part = (max(end - begin, 0) + splits - 1) / splits;
  const int tile_begin = begin + split * part;
  item.tile_begin = tile_begin;
  item.tiles = max(min(part, end - tile_begin), 0);
}

/// Fills empty buffers. Items follow each other without a gap: streamed tiles of the next item are
/// loaded while this one's are computed, and so is its stationary tile.
///
/// Calls for streamed tiles come from the last warp that releases a stage. They are in order, and
/// each sees the control data of the call before: to be the last to release one stage, a warp
/// adds to its counter after the caller before it did, which it does after its call.
template <class Policy, class Pass>
struct Loader {
  using Layout = WgmmaLayout<Policy, Pass>;
  using Control = WgmmaControl<Policy>;

  const WgmmaArguments& args;
  Control& control;
  std::uint32_t shared;  // address of dynamic shared memory
  __device__ void decode_round(std::uint32_t round, WgmmaItem& item) const {
    decode_item<Policy, Pass>(args, index_of_round(round, control.cta, control.ctas), item);
  }

  /// Loads the CTA's next stationary tile, or tells that there is none. One thread calls it, when
  /// all warps have read the tile before and need the item before that no more.
  __device__ void load_stationary() const {
    const std::uint32_t round = control.known_rounds++;
    const std::uint32_t barrier = sm90::shared_address(&control.stationary_full);
    WgmmaItem& item = control.item[round % 2];
    decode_round(round, item);
    if (item.tiles < 0) {
      sm90::mbarrier_arrive(barrier);  // no bytes: makes the item visible
      return;
    }
    sm90::mbarrier_arrive_expect(barrier, Layout::kStationaryBytes);
    load_rows(args.stationary.map, shared, barrier, item.first_row, item.stationary_head,
              item.batch, Policy::kRows);
  }

  /// Loads the next streamed tile into an empty stage, or nothing after the last. One thread. While
  /// warps release tiles of item i, item i + 1 is known: all of them have read stationary tile i.
  __device__ void load_tile(int stage) const {
    WgmmaItem& next = control.stream;
    if (next.tiles < 0) return;
    while (next.tiles == 0) {  // some items see nothing
      const std::uint32_t round = control.round++;
      if (round + 1 == control.known_rounds) {
        next = control.item[round % 2];
      } else {
        decode_round(round, next);
      }
      if (next.tiles < 0) return;
    }
    const int row = next.tile_begin * Policy::kStreamRows;
    const std::uint32_t barrier = sm90::shared_address(&control.full[stage]);
    sm90::mbarrier_arrive_expect(barrier, Layout::kTileBytes + Layout::kLseBytes);
    load_rows(args.stream.map, shared + Layout::kRing + stage * Layout::kTileBytes, barrier, row,
              next.stream_head, next.batch, Policy::kStreamRows);
    if constexpr (Pass::kReadsLse) {
      // Rows past the end bring the next head's lse, or zeros; nobody uses them.
      const auto first = static_cast<int>(next.head * args.lse_pitch);
      sm90::tma_load_4d(shared + Layout::kLse + control.lse_slot * Layout::kLseBytes, &args.lse_map,
                        barrier, first + row, 0, 0, 0);
      control.lse_slot = control.lse_slot + 1 == Policy::kLseSlots ? 0 : control.lse_slot + 1;
    }
    ++next.tile_begin;
    --next.tiles;
  }

 private:
  __device__ void load_rows(const TensorMap& map,
                            std::uint32_t to,
                            std::uint32_t barrier,
                            int row,
                            int head,
                            int batch,
                            int rows) const {
#pragma unroll
    for (int box = 0; box < Policy::kBoxes; ++box)
      sm90::tma_load_4d(to + box * rows * 2 * kBoxColumns, &map.map, barrier, box * kBoxColumns,
                        row, head * map.head_step, batch * map.batch_step);
  }
};

}  // namespace attn::colreduce
