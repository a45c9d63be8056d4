// Pass 2 of the tensor-core column reduction: the reduction over the queries of each key, keys
// stationary. An accumulator's rows are keys, so that a column of the attention matrix is summed
// within threads, without atomics and always in the same order.
#pragma once

#include <cmath>

#include "impls/colreduce/mma_output.cuh"
#include "impls/colreduce/mma_pipeline.cuh"
#include "impls/common/online_softmax.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {

/// Stationary rows are keys, streamed rows queries with their lse_log2:
/// out[n] = sum over m of 2^(scale_log2 s[m,n] - lse_log2[m]), over a divisor, or the maximum.
template <class Policy, bool kMax>
struct ColumnPass : FinishesAtTheEnd {
  static constexpr bool kReadsLse = true;
  static constexpr int kStageBytes =
      Policy::kSlotBytes + Policy::kStreamRows * static_cast<int>(sizeof(float));
  static constexpr int kExchangeBytes =
      Policy::kRows * Policy::kColumnWarps * static_cast<int>(sizeof(float));
  static constexpr int kSharedBytes = Policy::kStages * kStageBytes + kExchangeBytes;

  // The sum of weights, or the largest exponent. An empty column becomes 0 in both.
  RowValues<Policy> result;

  __device__ ColumnPass(const PassArguments&, const Item&, int) {
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r) result.value[i][r] = kMax ? -INFINITY : 0.0f;
  }

  __device__ static Interval visible(const AttentionMask& mask, int n) {
    return {mask.query_begin(n), mask.M};
  }

  __device__ static float combine(float a, float b) { return combine_columns<kMax>(a, b); }

  /// Combines into `part` (over it, at the `first` call) a chunk that every row sees.
  __device__ void accumulate(RowValues<Policy>& part,
                             bool first,
                             const ScoreChunk<Policy>& chunk,
                             float scale_log2,
                             const float* lse,
                             float*) const {
    reduce(part, first, chunk, scale_log2, lse, [](int, int, int) { return true; });
  }

  __device__ bool commit(const RowValues<Policy>& part) {
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        result.value[i][r] = combine(result.value[i][r], part.value[i][r]);
    return true;
  }

  /// Takes those scores of a chunk that exist.
  __device__ void take_visible(const ScoreChunk<Policy>& chunk,
                               float scale_log2,
                               const float* lse,
                               const AttentionMask& mask,
                               int row,
                               int first_column,
                               float*) {
    ColumnWindow window[Policy::kRowTiles][2];
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        window[i][r] = window_from(visible(mask, row + 16 * i + 8 * r), first_column);
    RowValues<Policy> part;
    reduce(part, true, chunk, scale_log2, lse,
           [&](int i, int r, int column) { return window[i][r].holds(column); });
    commit(part);
  }

  /// `sees(i, r, column)` tells which scores exist. The others are dropped after the exponential
  /// and not before, because their lse may be NaN.
  template <class Sees>
  __device__ static void reduce(RowValues<Policy>& part,
                                bool first,
                                const ScoreChunk<Policy>& chunk,
                                float scale_log2,
                                const float* lse,
                                Sees sees) {
#pragma unroll
    for (int j = 0; j < Policy::kChunk / 8; ++j) {
      const float2 pair = *reinterpret_cast<const float2*>(lse + 8 * j);
#pragma unroll
      for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float exponent = fmaf(chunk.value[i][j][c], scale_log2, c % 2 ? -pair.y : -pair.x);
          float value = kMax ? exponent : exp2_approx(exponent);
          if (!sees(i, c / 2, chunk_column(j, c))) value = kMax ? -INFINITY : 0.0f;
          float& whole = part.value[i][c / 2];
          whole = first && j == 0 && c % 2 == 0 ? value : combine(whole, value);
        }
      }
    }
  }

  __device__ void store(const PassArguments& args,
                        const Item& item,
                        unsigned char* exchange,
                        std::uint32_t thread) {
    float* shared = reinterpret_cast<float*>(exchange);  // [kColumnWarps][kRows]
    const std::uint32_t lane_row =
        thread / 32 * Policy::kWarpRows + thread % 32 / 4;  // column warps in turn
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float whole = warp_reduce<4>(result.value[i][r], &ColumnPass::combine);
        if (thread % 4 == 0) shared[lane_row + 16 * i + 8 * r] = whole;
      }
    }
    __syncthreads();  // all threads: every warp's part is visible
    const int row = static_cast<int>(thread);
    const int n = item.first_row + row;
    if (row >= Policy::kRows || n >= args.stationary.rows) return;
    float whole = shared[row];
#pragma unroll
    for (int part = 1; part < Policy::kColumnWarps; ++part)
      whole = combine(whole, shared[part * Policy::kRows + row]);
    store_column<kMax>(args, item.head, n, whole);
  }
};

}  // namespace attn::colreduce
