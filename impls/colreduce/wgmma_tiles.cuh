// How the wgmma passes lie in shared memory, and the loads that keep it full: a work list for the
// copy engine, walked by whichever thread finds a buffer empty.
#pragma once

#include <cstdint>

#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/colreduce/wgmma_items.h"
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
  static constexpr int kD = kD_;  // head dimension, zero-padded to steps of products
  static constexpr int kStreamRows = kStreamRows_;
  static constexpr int kStages = kStages_;
  static constexpr int kChunk = kChunk_;
  static constexpr int kBuffers = kBuffers_;
  static constexpr int kRun = kRun_;
  static constexpr bool kOrdered = kOrdered_;

  static constexpr int kRows = kWgmmaRows;
  static constexpr int kWarps = kRows / 16;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kBoxes = (kD + kBoxColumns - 1) / kBoxColumns;
  static constexpr int kRowBytes = kBoxes * kBoxColumns * 2;
  static constexpr int kSteps = kD / 16;  // of a product
  static constexpr int kChunks = kStreamRows / kChunk;
  // One more than stages: a tile's lse is still read when its stage has been given back.
  static constexpr int kLseSlots = kStages + 1;

  static_assert(kD % 16 == 0, "a step is 16 components wide");
  static_assert(kRows <= 256 && kStreamRows <= 256, "a box has at most 256 rows");
  static_assert(kStreamRows % kChunk == 0 && kChunk % 64 == 0, "chunks tile a streamed tile");
  static_assert(kStages > kRun, "a run's tiles land without one of them being given back");
};

/// Half-open range of streamed rows that a stationary row sees.
struct VisibleColumns {
  std::int64_t begin;
  std::int64_t end;
};

/// Where the lse of a streamed tile begins: coordinates in lse_map.
struct LsePlace {
  int column;
  int row;
};

/// What a CTA's threads share besides tiles. Indices in the comments count from the launch on.
template <class Policy, class Item>
struct WgmmaControl {
  std::uint64_t full[Policy::kStages];  // mbarrier: use u of a stage has landed in phase u
  std::uint64_t stationary_full;        // mbarrier: stationary tile i in phase i, and item[i % 2]
  std::uint32_t released[Policy::kStages];  // warps that have read this use of a stage
  std::uint32_t stationary_released;
  std::uint32_t known_rounds;  // items decoded so far: the youngest is the one before
  Item item[2];                // the CTA's item i at i % 2
  // The next tile to stream: written by one thread after another, see Loader.
  Item stream;          // tiles: those left; tile_begin: the next
  std::uint32_t round;  // of the item after that
  std::uint32_t lse_slot;
  // Which items are this CTA's. Here and not in registers, which scores need.
  std::uint32_t cta;
  std::uint32_t ctas;
};

/// Byte offsets in dynamic shared memory.
template <class Policy, class Pass>
struct WgmmaLayout {
  static constexpr int kStationaryBytes = Policy::kRows * Policy::kRowBytes;
  static constexpr int kTileBytes = Policy::kStreamRows * Policy::kRowBytes;
  static constexpr int kLseBytes =
      Pass::kReadsLse ? Policy::kStreamRows * static_cast<int>(sizeof(float)) : 0;
  static constexpr int kRing = kStationaryBytes;
  static constexpr int kLse = kRing + Policy::kStages * kTileBytes;
  static constexpr int kTotals = kLse + Policy::kLseSlots * kLseBytes;  // one float a row
  static constexpr int kTotalBytes =
      Pass::kEachHead ? Policy::kRows * static_cast<int>(sizeof(float)) : 0;
  static constexpr int kControl = kTotals + kTotalBytes;
  using Control = WgmmaControl<Policy, typename Pass::Items::Item>;
  static constexpr int kBytes = kControl + static_cast<int>(sizeof(Control));
  static_assert(kTileBytes % 1024 == 0, "swizzled tiles repeat every 1024 bytes");
  static_assert(kBytes <= 227 * 1024, "what a CTA may have on sm_90");
};

/// The items of problems without options: one head's stationary tile, or a split of it. What the
/// kernel asks of its items, WgmmaOptionItems answers for all the others.
struct WgmmaPlainItems {
  using Arguments = WgmmaArguments;
  using Item = WgmmaItem;
  static constexpr bool kOptions = false;

  __device__ static VisibleColumns keys(const AttentionMask& mask, int m) {
    return {0, mask.key_end(m)};
  }
  __device__ static VisibleColumns queries(const AttentionMask& mask, int n) {
    return {mask.query_begin(n), mask.M};
  }
  __device__ static const AttentionMask& mask(const Arguments& args, const Item&) {
    return args.mask;
  }
  /// Stationary rows of the item's sequence.
  __device__ static int rows(const Arguments& args, const Item&) { return args.rows; }
  /// Row at `offset`, a multiple of 16, of a stationary tile that starts at `first_row`; `rows` or
  /// more where there is none.
  __device__ static int row_at(const Arguments&, const Item&, int first_row, int offset) {
    return first_row + offset;
  }
  __device__ static std::int64_t lse_index(const Arguments& args, const Item& item, int, int m) {
    return static_cast<std::int64_t>(item.part) * args.lse_pitch + m;
  }

  // Of the loader: where tiles start in the tensor maps.
  __device__ static int stationary_row(const Item& item) { return item.first_row; }
  __device__ static int stream_row(const Item&, int row) { return row; }
  __device__ static LsePlace lse_place(const Arguments& args, const Item& item, int row) {
    return {static_cast<int>(item.head * args.lse_pitch) + row, 0};
  }
  /// From one streamed tile to the next.
  __device__ static void advance(Item& item) {
    ++item.tile_begin;
    --item.tiles;
  }
  /// Writes the item that a CTA takes in a round, or none (tiles = -1) past the last. Field by
  /// field to shared memory: callers hold their scores in registers.
  template <class Policy, class Pass>
  __device__ static void decode(const Arguments& args,
                                std::uint32_t round,
                                std::uint32_t cta,
                                std::uint32_t ctas,
                                Item& item) {
    const std::uint32_t index = index_of_round(round, cta, ctas);
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

    // Ends of visible ranges only grow with the row (AttentionMask): the first and the last row
    // bound what some row sees.
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
};

/// Fills empty buffers. Items follow each other without a gap: streamed tiles of the next item are
/// loaded while this one's are computed, and so is its stationary tile.
///
/// Calls for streamed tiles come from the last warp that releases a stage. They are in order, and
/// each sees the control data of the call before: to be the last to release one stage, a warp
/// adds to its counter after the caller before it did, which it does after its call.
template <class Policy, class Pass>
struct Loader {
  using Layout = WgmmaLayout<Policy, Pass>;
  using Control = typename Layout::Control;
  using Item = typename Pass::Items::Item;

  const typename Pass::Items::Arguments& args;
  Control& control;
  std::uint32_t shared;  // address of dynamic shared memory
  __device__ void decode_round(std::uint32_t round, Item& item) const {
    Pass::Items::template decode<Policy, Pass>(args, round, control.cta, control.ctas, item);
  }

  /// Loads the CTA's next stationary tile, or tells that there is none. One thread calls it, when
  /// all warps have read the tile before and need the item before that no more.
  __device__ void load_stationary() const {
    const std::uint32_t round = control.known_rounds++;
    const std::uint32_t barrier = sm90::shared_address(&control.stationary_full);
    Item& item = control.item[round % 2];
    decode_round(round, item);
    if (item.tiles < 0) {
      sm90::mbarrier_arrive(barrier);  // no bytes: makes the item visible
      return;
    }
    sm90::mbarrier_arrive_expect(barrier, Layout::kStationaryBytes);
    load_rows(args.stationary.map, shared, barrier, Pass::Items::stationary_row(item),
              item.stationary_head, item.batch, Policy::kRows);
  }

  /// Loads the next streamed tile into an empty stage, or nothing after the last. One thread. While
  /// warps release tiles of item i, item i + 1 is known: all of them have read stationary tile i.
  __device__ void load_tile(int stage) const {
    Item& next = control.stream;
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
    load_rows(args.stream.map, shared + Layout::kRing + stage * Layout::kTileBytes, barrier,
              Pass::Items::stream_row(next, row), next.stream_head, next.batch,
              Policy::kStreamRows);
    if constexpr (Pass::kReadsLse) {
      // Rows past the end bring the next head's lse, or zeros; nobody uses them.
      const LsePlace at = Pass::Items::lse_place(args, next, row);
      sm90::tma_load_4d(shared + Layout::kLse + control.lse_slot * Layout::kLseBytes, &args.lse_map,
                        barrier, at.column, at.row, 0, 0);
      control.lse_slot = control.lse_slot + 1 == Policy::kLseSlots ? 0 : control.lse_slot + 1;
    }
    Pass::Items::advance(next);
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
