// Pass 2 of the wgmma column reduction where heads that share their keys have few queries: a
// streamed tile holds all queries of several heads, so that keys meet them in one product.
#pragma once

#include "impls/colreduce/wgmma_option_columns.cuh"

namespace attn::colreduce {

/// Streamed rows [h pack_rows, (h + 1) pack_rows) of a tile are queries 0, 1, ... of its head h,
/// and whatever lies behind them. A chunk is a whole tile.
template <bool kMax>
struct WgmmaPackedColumnPass : WgmmaOptionColumnPass<kMax> {
  using Base = typename WgmmaOptionColumnPass<kMax>::Base;
  static constexpr bool kPacked = true;
  static constexpr int kPiece = 16;  // columns of one head at least

  int head = 0;  // of the item, the tile's first

  /// Heads that no key of the item sees have no tile.
  __device__ void finish_heads(const WgmmaOptionArguments& args,
                               const WgmmaOptionItem& item,
                               int first,
                               int row,
                               int lane,
                               float& total) {
    if (item.head_tiles > 0) return;
    const int end = min(first + item.tile_heads, item.heads);
    for (int own = first; own < end; ++own)
      this->finish_head(args, item, own, row, lane, total, this->result);
  }

  /// Takes a tile and finishes its heads. `row` is the first of the thread's two.
  template <int kScores>
  __device__ void take_heads(const WgmmaOptionArguments& args,
                             const WgmmaOptionItem& item,
                             const float (&scores)[kScores],
                             const float* lse,
                             int row,
                             int lane,
                             float& total) {
    const ColumnRange range[2] = {range_from(Base::visible(item.mask, row), lane % 4 * 2),
                                  range_from(Base::visible(item.mask, row + 8), lane % 4 * 2)};
    int first_query = 0;  // of the piece, in its head
#pragma unroll
    for (int piece = 0; piece < kScores * 2 / kPiece; ++piece) {
#pragma unroll
      for (int j = 0; j < kPiece / 8; ++j) {
        const int index = piece * kPiece / 8 + j;  // of 8 columns
        const float2 pair = *reinterpret_cast<const float2*>(lse + 8 * index);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float exponent =
              fmaf(scores[4 * index + c], args.scale_log2, c % 2 ? -pair.y : -pair.x);
          float value = kMax ? exponent : exp2_approx(exponent);
          if (!range[c / 2].holds(first_query + 8 * j + c % 2)) value = Base::kNothing;
          this->result[c / 2] = Base::combine(this->result[c / 2], value);
        }
      }
      first_query += kPiece;
      if (first_query < args.numbers.pack_rows) continue;
      first_query = 0;
      this->finish_head(args, item, head, row, lane, total, this->result);
      if (++head == item.heads) return;
    }
  }
};

}  // namespace attn::colreduce
