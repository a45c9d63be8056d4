// The items of the wgmma passes, and how those of problems with options are numbered: sequences of
// their own lengths and places, windows, and several query heads an item. Nothing here needs a GPU.
#pragma once

#include <cstdint>

#include "harness/core/host_device.h"
#include "impls/colreduce/visible_tiles.h"
#include "impls/colreduce/wgmma_choices.h"
#include "impls/colreduce/wgmma_sequences.h"
#include "reference/attention_mask.h"

namespace attn::colreduce {

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

/// `head`, `stationary_head` and `stream_head` are the item's first. `tiles` counts those of all
/// its heads, each of which begins at the same tile.
struct alignas(16) WgmmaOptionItem : WgmmaItem {
  AttentionMask mask;     // of the sequence
  int rows;               // stationary rows of the sequence
  int stationary_origin;  // row of the tensor map where the sequence's stationary rows begin
  int stream_origin;      // the same of the streamed rows
  int lse_first;          // of the sequence in a head's lse
  int pack_rows;          // rows of the stationary tile that belong to one head
  int packed_rows;        // rows of the stationary tile that belong to any
  int heads;              // query heads
  int tile_heads;         // of them, in one streamed tile
  int head_tiles;         // streamed tiles of one head, or of as many as a tile holds
  int head_end;           // the tile behind them
  int out_row;            // row of `out` that the first head adds to; column pass only
  bool last_of_chain;     // what the heads add up to is complete behind this item
};

/// What items are numbered by. An item is one stationary tile with `heads` query heads that share
/// it: as rows of one tile of queries in a row pass, streamed one after another in a column pass,
/// where `links` items of a chain, of as many key heads, follow each other in one CTA. Of each unit
/// there are `slots` chains. A unit is one of `units`; or, where all batches are alike, one of
/// `order`, whose heads are then batches x slots.
struct WgmmaNumbers {
  WgmmaSequence whole;                       ///< every batch, of its own number
  const WgmmaSequence* sequences = nullptr;  // of a ragged problem
  const WgmmaUnit* units = nullptr;  // the same; chain = (unit * splits + split) * slots + slot
  ItemOrder order;
  std::uint32_t chains = 1;
  std::uint32_t splits = 1;  ///< parts of the streamed axis
  std::uint32_t slots = 1;
  std::uint32_t heads = 1;  ///< at most `sharing`, all of it where there are links
  std::uint32_t links = 1;
  std::uint32_t sharing = 1;      ///< query heads a key head
  std::uint32_t H = 1;            ///< query heads
  std::uint32_t total_heads = 1;  ///< B * H
  std::uint32_t combined = 1;     ///< query heads an output head
  std::uint32_t part_rows = 0;  ///< output heads of all batches: from one part of `out` to the next
  int pack_rows = kWgmmaRows;   ///< rows of a tile of queries that belong to one head
};

/// Writes the item that a CTA takes in a round, or none (tiles = -1) past the last, field by field.
/// kKeys: keys are stationary and tiles of kStreamRows queries stream, else the other way round.
template <bool kKeys, int kStreamRows>
struct WgmmaNumbering {
  ATTN_HOST_DEVICE static void decode(const WgmmaNumbers& numbers,
                                      std::uint32_t round,
                                      std::uint32_t cta,
                                      std::uint32_t ctas,
                                      WgmmaOptionItem& item) {
    const std::uint32_t chain_round = round / numbers.links;
    const std::uint32_t link = round - chain_round * numbers.links;
    const std::uint32_t index = index_of_round(chain_round, cta, ctas);
    if (index >= numbers.chains) {
      item.tiles = -1;
      return;
    }
    std::uint32_t slot;
    std::uint32_t unit;  // tile * splits + split
    if (numbers.units != nullptr) {
      const std::uint32_t place = index / numbers.slots;
      slot = index - place * numbers.slots;
      const WgmmaUnit& own = numbers.units[place / numbers.splits];
      unit = own.tile * numbers.splits + place % numbers.splits;
      const WgmmaSequence& sequence = numbers.sequences[own.sequence];
      place_sequence(sequence, sequence.batch, item);
    } else {
      const ItemPlace place = place_of(numbers.order, index);
      const std::uint32_t batch = place.head / numbers.slots;
      slot = place.head - batch * numbers.slots;
      unit = place.unit;
      place_sequence(numbers.whole, static_cast<int>(batch), item);
    }
    const std::uint32_t tile = unit / numbers.splits;
    const auto split = static_cast<int>(unit - tile * numbers.splits);
    place_heads(numbers, slot, link, split, item);
    place_tiles(numbers, static_cast<int>(tile), split, item);
    item.last_of_chain = link + 1 == numbers.links;
  }

 private:
  template <class T>
  ATTN_HOST_DEVICE static constexpr T smaller(T a, T b) {
    return a < b ? a : b;
  }

  ATTN_HOST_DEVICE static void place_sequence(const WgmmaSequence& sequence,
                                              int batch,
                                              WgmmaOptionItem& item) {
    item.batch = batch;
    item.mask = sequence.mask;
    item.rows = static_cast<int>(kKeys ? sequence.mask.N : sequence.mask.M);
    item.stationary_origin = kKeys ? sequence.k_first : sequence.q_first;
    item.stream_origin = kKeys ? sequence.q_first : sequence.k_first;
    item.lse_first = sequence.lse_first;
  }

  ATTN_HOST_DEVICE static void place_heads(const WgmmaNumbers& numbers,
                                           std::uint32_t slot,
                                           std::uint32_t link,
                                           int split,
                                           WgmmaOptionItem& item) {
    const std::uint32_t group_slots = (numbers.sharing + numbers.heads - 1) / numbers.heads;
    const std::uint32_t group = slot / group_slots;
    const std::uint32_t in_group = (slot - group * group_slots) * numbers.heads;
    const std::uint32_t first = (group * numbers.links + link) * numbers.sharing + in_group;
    const auto heads = static_cast<int>(smaller(numbers.heads, numbers.sharing - in_group));
    item.head = static_cast<std::uint32_t>(item.batch) * numbers.H + first;
    item.part = static_cast<std::uint32_t>(split) * numbers.total_heads + item.head;
    item.stationary_head = static_cast<int>(kKeys ? first / numbers.sharing : first);
    item.stream_head = static_cast<int>(kKeys ? first : first / numbers.sharing);
    item.heads = heads;
    item.pack_rows = kKeys ? kWgmmaRows : numbers.pack_rows;
    item.packed_rows = kKeys ? kWgmmaRows : heads * numbers.pack_rows;
    item.tile_heads = kKeys ? kStreamRows / numbers.pack_rows : heads;
    if constexpr (kKeys) {
      const std::uint32_t out_head = first / numbers.combined;
      const std::uint32_t part =
          (first - out_head * numbers.combined) / (numbers.heads * numbers.links);
      item.out_row = static_cast<int>(part * numbers.part_rows +
                                      item.batch * (numbers.H / numbers.combined) + out_head);
    }
  }

  ATTN_HOST_DEVICE static void place_tiles(const WgmmaNumbers& numbers,
                                           int tile,
                                           int split,
                                           WgmmaOptionItem& item) {
    const int first = tile * item.pack_rows;
    const int last = smaller(first + item.pack_rows, item.rows) - 1;
    const TileRange all = kKeys ? query_tiles(item.mask, first, last, kStreamRows)
                                : key_tiles(item.mask, first, last, kStreamRows);
    const auto splits = static_cast<int>(numbers.splits);
    const int part = (all.count() + splits - 1) / splits;
    const int begin = all.begin + split * part;
    const int left = smaller(part, all.end - begin);
    const int own = left < 0 ? 0 : left;
    item.first_row = first;
    item.tile_begin = begin;
    item.head_tiles = own;
    item.head_end = begin + own;
    item.tiles = own * ((item.heads + item.tile_heads - 1) / item.tile_heads);
  }
};

}  // namespace attn::colreduce
