// Pass 2 of the tensor-core column reduction: the reduction over the queries of each key, keys
// stationary. An accumulator's rows are keys, so that a column of the attention matrix is summed
// within threads, without atomics and always in the same order.
#pragma once

#include <cmath>

#include "impls/colreduce/mma_output.cuh"
#include "impls/colreduce/mma_pipeline.cuh"
#include "impls/colreduce/mma_policies.cuh"
#include "impls/common/online_softmax.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {

/// Stationary rows are keys, streamed rows queries with their lse_log2:
/// out[n] = sum over m of 2^(scale_log2 s[m,n] - lse_log2[m]), over a divisor, or the maximum.
/// With options an item's heads are reduced one after the other and their columns combined.
template <class Policy, bool kMax, bool kOptions>
struct ColumnPass : FinishesAtTheEnd {
  using Arguments = PassArgumentsOf<kOptions>;
  static constexpr bool kStreamsQueries = true;
  static constexpr int kStageBytes =
      Policy::kSlotBytes + Policy::kStreamRows * static_cast<int>(sizeof(float));
  static constexpr int kExchangeBytes =
      Policy::kRows * Policy::kColumnWarps * static_cast<int>(sizeof(float));
  static constexpr int kSharedBytes = Policy::kStages * kStageBytes + kExchangeBytes;

  // The sum of weights, or the largest exponent. An empty column becomes 0 in both.
  RowValues<Policy> result;

  template <class AnyItem>
  __device__ ColumnPass(const Arguments&, const AnyItem&, int) {
    clear();
  }

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r) result.value[i][r] = kMax ? -INFINITY : 0.0f;
  }

  __device__ static Interval visible(const AttentionMask& mask, int n) {
    return {mask.query_begin(n), kOptions ? mask.query_end(n) : mask.M};
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

  /// The first of this thread's rows of the tile; those of later column warps follow a whole tile.
  __device__ static std::uint32_t first_row(std::uint32_t thread) {
    return thread / 32 * Policy::kWarpRows + thread % 32 / 4;
  }

  __device__ void end_head(const PassArguments&, std::uint32_t, unsigned char*, std::uint32_t) {}

  /// Combines the columns of head number `head` with those before it, in shared memory: the thread
  /// that writes a row there is the one that reads it.
  __device__ void end_head(const PassOptions& args,
                           std::uint32_t head,
                           unsigned char* exchange,
                           std::uint32_t thread) {
    static_assert(!kOptions || Policy::kColumnWarps == 1, "a row's lanes hold all of its weights");
    float* totals = reinterpret_cast<float*>(exchange) + first_row(thread);
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float reduced = warp_reduce<4>(result.value[i][r], &ColumnPass::combine);
        const float column = kMax ? exp2_approx(reduced) : reduced;
        if (thread % 4 == 0) {
          float& total = totals[16 * i + 8 * r];
          total = head == 0             ? column
                  : args.max_over_heads ? MaxOrNan{}(total, column)
                                        : total + column;
        }
      }
    }
    clear();
  }

  __device__ void store(const PassOptions& args,
                        const SequenceItem& item,
                        unsigned char* exchange,
                        std::uint32_t thread) {
    const float* totals = reinterpret_cast<const float*>(exchange) + first_row(thread);
    if (thread % 4 != 0) return;
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        store_total(args, item,
                    item.first_row + static_cast<int>(first_row(thread)) + 16 * i + 8 * r,
                    totals[16 * i + 8 * r]);
  }

  __device__ void store(const PassArguments& args,
                        const Item& item,
                        unsigned char* exchange,
                        std::uint32_t thread) {
    float* shared = reinterpret_cast<float*>(exchange);  // [kColumnWarps][kRows]
    const std::uint32_t lane_row = first_row(thread);
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

template <bool kOptions>
PassKernel column_kernel(DType dtype, std::int64_t D, bool is_max) {
  PassKernel kernel;
  dispatch_padded(D, [&](auto padded) {
    using Policy = WidePolicy<padded>;
    kernel = is_max ? pass_kernel<Policy, ColumnPass<Policy, true, kOptions>>(dtype)
                    : pass_kernel<Policy, ColumnPass<Policy, false, kOptions>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
