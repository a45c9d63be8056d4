// Pass 2 of the tensor-core column reduction where one tile holds all queries of a head: queries
// stationary, keys streamed once, as in pass 1. With keys stationary every tile of keys would fetch
// the queries again, half as many bytes as the keys themselves.
#pragma once

#include <cmath>

#include "impls/colreduce/mma_output.cuh"
#include "impls/colreduce/mma_pipeline.cuh"

namespace attn::colreduce {

/// Stationary rows are all queries of a head, with their lse_log2 in registers; streamed rows are
/// keys: out[n] = sum over m of 2^(scale_log2 s[m,n] - lse_log2[m]), over a divisor, or the maximum.
///
/// A key's weights lie in eight lanes of kRowWarps warps. The lanes combine by a butterfly that
/// halves the columns as it goes, the warps through shared memory, one tile later: the barrier that
/// every tile needs anyway makes them visible. Always in the same order, no atomics.
template <class Policy, bool kMax>
struct FewQueriesPass {
  using Arguments = PassArguments;
  static constexpr bool kStreamsQueries = false;
  static constexpr int kStageBytes = Policy::kSlotBytes;
  static constexpr int kTileValues = Policy::kRowWarps * Policy::kStreamRows;
  static constexpr int kExchangeBytes = 2 * kTileValues * static_cast<int>(sizeof(float));
  static constexpr int kSharedBytes = Policy::kStages * kStageBytes + kExchangeBytes;
  static constexpr float kNothing = kMax ? -INFINITY : 0.0f;
  static_assert(Policy::kStreamRows <= Policy::kThreads, "one thread for each key of a tile");

  RowValues<Policy> lse;

  /// Rows past the last query get +inf, and with it weight 0.
  __device__ FewQueriesPass(const PassArguments& args, const Item& item, int row_warp) {
    const std::int64_t head_rows = static_cast<std::int64_t>(item.head) * args.stationary.rows;
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row =
            item.first_row + row_warp * Policy::kWarpRows + 16 * i + 8 * r + sm80::lane_id() / 4;
        lse.value[i][r] = row < args.stationary.rows ? args.lse_log2[head_rows + row] : INFINITY;
      }
    }
  }

  __device__ static Interval visible(const AttentionMask& mask, int m) {
    return {0, mask.key_end(m)};
  }

  /// What the warps found of tile number `tile`: [kRowWarps][kStreamRows]. Two tiles take turns.
  __device__ static float* tile_columns(unsigned char* exchange, int tile) {
    return reinterpret_cast<float*>(exchange) + tile % 2 * kTileValues;
  }

  /// Leaves the chunk's columns, of which every row sees all, in `columns`.
  __device__ void accumulate(RowValues<Policy>&,
                             bool,
                             const ScoreChunk<Policy>& chunk,
                             float scale_log2,
                             const float*,
                             float* columns) const {
    reduce(chunk, scale_log2, columns, [](int, int, int) { return true; });
  }

  __device__ bool commit(const RowValues<Policy>&) { return true; }

  /// The same for those scores of a chunk that exist.
  __device__ void take_visible(const ScoreChunk<Policy>& chunk,
                               float scale_log2,
                               const float*,
                               const AttentionMask& mask,
                               int row,
                               int first_column,
                               float* columns) const {
    ColumnWindow window[Policy::kRowTiles][2];
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        window[i][r] = window_from(visible(mask, row + 16 * i + 8 * r), first_column);
    reduce(chunk, scale_log2, columns,
           [&](int i, int r, int column) { return window[i][r].holds(column); });
  }

  template <class Sees>
  __device__ void reduce(const ScoreChunk<Policy>& chunk,
                         float scale_log2,
                         float* columns,
                         Sees sees) const {
#pragma unroll
    for (int j = 0; j < Policy::kChunk / 8; j += 2) {
      float sums[4];  // columns 8 j + {0, 1, 8, 9} + 2 t of this lane's rows
#pragma unroll
      for (int column = 0; column < 4; ++column) {
        sums[column] = kNothing;
#pragma unroll
        for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const int part = j + column / 2;
            const float exponent =
                fmaf(chunk.value[i][part][2 * r + column % 2], scale_log2, -lse.value[i][r]);
            float value = kMax ? exponent : exp2_approx(exponent);
            if (!sees(i, r, chunk_column(part, column))) value = kNothing;
            sums[column] = combine_columns<kMax>(sums[column], value);
          }
        }
      }
      store_over_rows(sums, columns + 8 * j);
    }
  }

  /// Combines `sums` over the eight lanes that hold the same columns and stores 16 columns.
  __device__ static void store_over_rows(const float (&sums)[4], float* columns) {
    const int lane = sm80::lane_id();
    const bool high = lane & 16;  // keeps columns 8.., gives away columns 0..
    const bool odd = lane & 8;    // keeps the odd column, gives away the even one
    const float even_column =
        exchange_lanes(high ? sums[2] : sums[0], high ? sums[0] : sums[2], 16);
    const float odd_column = exchange_lanes(high ? sums[3] : sums[1], high ? sums[1] : sums[3], 16);
    float whole = exchange_lanes(odd ? odd_column : even_column, odd ? even_column : odd_column, 8);
    whole = exchange_lanes(whole, whole, 4);
    // Lanes that differ in bit 2 alone hold the same column.
    const int column = (high ? 8 : 0) + lane % 4 * 2 + (odd ? 1 : 0);
    if ((lane & 4) == 0) columns[column] = whole;
  }

  __device__ static float exchange_lanes(float keep, float give, int distance) {
    return combine_columns<kMax>(keep, __shfl_xor_sync(0xffffffffu, give, distance));
  }

  /// Stores the keys of a tile that all warps have left behind a barrier.
  __device__ void store_tile(const PassArguments& args,
                             const Item& item,
                             int tile,
                             unsigned char* exchange,
                             std::uint32_t thread) const {
    const int n = tile * Policy::kStreamRows + static_cast<int>(thread);
    if (thread >= Policy::kStreamRows || n >= args.stream.rows) return;
    const float* columns = tile_columns(exchange, tile);
    float whole = columns[thread];
#pragma unroll
    for (int warp = 1; warp < Policy::kRowWarps; ++warp)
      whole = combine_columns<kMax>(whole, columns[warp * Policy::kStreamRows + thread]);
    store_column<kMax>(args, item.head, n, whole);
  }

  __device__ void end_head(const PassArguments&, std::uint32_t, unsigned char*, std::uint32_t) {}

  __device__ void store(const PassArguments& args,
                        const Item& item,
                        unsigned char* exchange,
                        std::uint32_t thread) const {
    __syncthreads();  // all threads: the last tile's columns are visible
    if (item.tile_begin < item.tile_end)
      store_tile(args, item, item.tile_end - 1, exchange, thread);
    // Keys that no query sees: the first part has them.
    if (item.part / args.heads != 0) return;
    const auto seen = static_cast<int>(visible(args.mask, args.stationary.rows - 1).end);
    const int tiles = (seen + Policy::kStreamRows - 1) / Policy::kStreamRows;
    for (int n = tiles * Policy::kStreamRows + static_cast<int>(thread); n < args.stream.rows;
         n += Policy::kThreads)
      store_column<kMax>(args, item.head, n, kNothing);
  }
};

}  // namespace attn::colreduce
