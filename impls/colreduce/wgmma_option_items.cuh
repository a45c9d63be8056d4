// The items of the wgmma passes where a problem has options, as the kernel uses them. wgmma_items.h
// says what they are and how they are numbered.
#pragma once

#include <cstdint>

#include "impls/colreduce/wgmma_tiles.cuh"

namespace attn::colreduce {

struct WgmmaOptionItems {
  using Arguments = WgmmaOptionArguments;
  using Item = WgmmaOptionItem;
  static constexpr bool kOptions = true;

  __device__ static VisibleColumns keys(const AttentionMask& mask, int m) {
    return {mask.key_begin(m), mask.key_end(m)};
  }
  __device__ static VisibleColumns queries(const AttentionMask& mask, int n) {
    return {mask.query_begin(n), mask.query_end(n)};
  }
  __device__ static const AttentionMask& mask(const Arguments&, const Item& item) {
    return item.mask;
  }
  __device__ static int rows(const Arguments&, const Item& item) { return item.rows; }
  __device__ static int row_at(const Arguments&, const Item& item, int first_row, int offset) {
    return offset < item.packed_rows ? first_row + (offset & (item.pack_rows - 1)) : item.rows;
  }
  __device__ static std::int64_t lse_index(const Arguments& args,
                                           const Item& item,
                                           int warp,
                                           int m) {
    const std::uint32_t head = item.part + static_cast<std::uint32_t>(warp * 16 / item.pack_rows);
    return static_cast<std::int64_t>(head) * args.lse_pitch + item.lse_first + m;
  }

  __device__ static int stationary_row(const Item& item) {
    return item.stationary_origin + item.first_row;
  }
  __device__ static int stream_row(const Item& item, int row) { return item.stream_origin + row; }
  __device__ static LsePlace lse_place(const Arguments&, const Item& item, int row) {
    return {item.lse_first + row, static_cast<int>(item.head)};
  }
  /// Behind the last tile of a head comes the first of the next.
  __device__ static void advance(Item& item) {
    --item.tiles;
    if (++item.tile_begin < item.head_end) return;
    item.tile_begin -= item.head_tiles;
    item.head += item.tile_heads;
    item.stream_head += item.tile_heads;
  }

  /// As WgmmaPlainItems::decode.
  template <class Policy, class Pass>
  __device__ static void decode(const Arguments& args,
                                std::uint32_t round,
                                std::uint32_t cta,
                                std::uint32_t ctas,
                                Item& item) {
    using Numbering = WgmmaNumbering<Pass::kReadsLse, Policy::kStreamRows>;
    Numbering::decode(args.numbers, round, cta, ctas, item);
  }
};

}  // namespace attn::colreduce
