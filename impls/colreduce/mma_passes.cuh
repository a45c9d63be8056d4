// What the two passes make of the scores: RowPass the normaliser of each query, ColumnPass the
// reduction over the queries of each key. Both keep their results in registers while the streamed
// operand goes by: in a column pass the accumulator's rows are keys, so that a column of the
// attention matrix is summed within threads, without atomics and always in the same order.
#pragma once

#include <cmath>

#include "impls/arch/sm80/max.cuh"
#include "impls/colreduce/mma_pipeline.cuh"
#include "impls/common/online_softmax.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {

/// Which of a row's columns in a chunk are visible: those with column - first in [begin, end).
struct ColumnWindow {
  int begin;
  int end;
  __device__ bool holds(int column) const { return column >= begin && column < end; }
};

__device__ inline ColumnWindow window_from(const Interval& visible, int first_column) {
  return {static_cast<int>(visible.begin - first_column),
          static_cast<int>(visible.end - first_column)};
}

/// Column within a chunk, of a lane's element [j][c] (ScoreChunk), less the lane's first column.
__device__ constexpr int chunk_column(int j, int c) { return 8 * j + c % 2; }

/// Stationary rows are queries, streamed rows keys: lse_log2[m] = log2 sum_n 2^(scale_log2 s[m,n]).
///
/// Each thread runs its own softmax over the columns that it meets, for each of its rows. The
/// reference of a row stays what it is as long as sums of 2^(score - reference) stay below kLimit;
/// only a tile that exceeds it is computed again, with its maximum. So a maximum per score costs
/// nothing in the common case, and nothing is lost: fp32 keeps its relative precision up to 2^127.
template <class Policy>
struct RowPass {
  static constexpr bool kReadsLse = false;
  static constexpr int kStageBytes = Policy::kSlotBytes;
  static constexpr int kExchangeBytes =
      Policy::kRows * Policy::kColumnWarps * static_cast<int>(sizeof(OnlineSoftmax));
  static constexpr int kSharedBytes = Policy::kStages * kStageBytes + kExchangeBytes;
  static constexpr float kLimit = 0x1p60f;

  OnlineSoftmax softmax[Policy::kRowTiles][2];

  __device__ static Interval visible(const AttentionMask& mask, int m) {
    return {0, mask.key_end(m)};
  }

  /// Sums into `part` (over it, at the `first` call) the weights of a chunk that every row sees.
  __device__ void accumulate(RowValues<Policy>& part,
                             bool first,
                             const ScoreChunk<Policy>& chunk,
                             float scale_log2,
                             const float*) const {
#pragma unroll
    for (int j = 0; j < Policy::kChunk / 8; ++j) {
#pragma unroll
      for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          float& sum = part.value[i][c / 2];
          const float weight =
              exp2_approx(fmaf(chunk.value[i][j][c], scale_log2, -softmax[i][c / 2].max));
          sum = first && j == 0 && c % 2 == 0 ? weight : sum + weight;
        }
      }
    }
  }

  /// Takes a tile's sums, or tells the warp that one of them is too large: then nothing has changed.
  __device__ bool commit(const RowValues<Policy>& part) {
    float total = 0;
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i) total += part.value[i][0] + part.value[i][1];
    // A reference of -inf, as at the start, makes the sum +inf or NaN, which fails as well.
    if (__any_sync(0xffffffffu, !(total < kLimit))) return false;
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r) softmax[i][r].sum += part.value[i][r];
    return true;
  }

  /// The online softmax proper, over those scores of a chunk that exist.
  __device__ void take_visible(const ScoreChunk<Policy>& chunk,
                               float scale_log2,
                               const float*,
                               const AttentionMask& mask,
                               int row,
                               int first_column) {
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const ColumnWindow window = window_from(visible(mask, row + 16 * i + 8 * r), first_column);
        float scores[Policy::kChunk / 4];
#pragma unroll
        for (int j = 0; j < Policy::kChunk / 8; ++j)
#pragma unroll
          for (int c = 0; c < 2; ++c)
            scores[2 * j + c] = window.holds(chunk_column(j, c))
                                    ? scale_log2 * chunk.value[i][j][2 * r + c]
                                    : -INFINITY;
        softmax[i][r].absorb(scores);
      }
    }
  }

  __device__ void store(const PassArguments& args,
                        const Item& item,
                        unsigned char* exchange,
                        std::uint32_t thread) {
    OnlineSoftmax* shared = reinterpret_cast<OnlineSoftmax*>(exchange);  // [kColumnWarps][kRows]
    const std::uint32_t lane_row =
        thread / 32 * Policy::kWarpRows + thread % 32 / 4;  // column warps in turn
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        softmax[i][r].template merge_lanes<4>();
        if (thread % 4 == 0) shared[lane_row + 16 * i + 8 * r] = softmax[i][r];
      }
    }
    __syncthreads();  // all threads: every warp's part is visible
    const int row = static_cast<int>(thread);
    if (row >= Policy::kRows || item.first_row + row >= args.stationary.rows) return;
    OnlineSoftmax whole = shared[row];
#pragma unroll
    for (int part = 1; part < Policy::kColumnWarps; ++part)
      whole.merge(shared[part * Policy::kRows + row]);
    args.lse_log2[static_cast<std::int64_t>(item.part) * args.stationary.rows + item.first_row +
                  row] = whole.sum == 0.0f ? args.lse_without_key : whole.lse_log2();
  }
};

/// Stationary rows are keys, streamed rows queries with their lse_log2:
/// out[n] = sum over m of 2^(scale_log2 s[m,n] - lse_log2[m]), over a divisor, or the maximum.
template <class Policy, bool kMax>
struct ColumnPass {
  static constexpr bool kReadsLse = true;
  static constexpr int kStageBytes =
      Policy::kSlotBytes + Policy::kStreamRows * static_cast<int>(sizeof(float));
  static constexpr int kExchangeBytes =
      Policy::kRows * Policy::kColumnWarps * static_cast<int>(sizeof(float));
  static constexpr int kSharedBytes = Policy::kStages * kStageBytes + kExchangeBytes;

  // The sum of weights, or the largest exponent. An empty column becomes 0 in both.
  RowValues<Policy> result;

  __device__ ColumnPass() {
#pragma unroll
    for (int i = 0; i < Policy::kRowTiles; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r) result.value[i][r] = kMax ? -INFINITY : 0.0f;
  }

  __device__ static Interval visible(const AttentionMask& mask, int n) {
    return {mask.query_begin(n), mask.M};
  }

  __device__ static float combine(float a, float b) { return kMax ? sm80::max_nan(a, b) : a + b; }

  /// Combines into `part` (over it, at the `first` call) a chunk that every row sees.
  __device__ void accumulate(RowValues<Policy>& part,
                             bool first,
                             const ScoreChunk<Policy>& chunk,
                             float scale_log2,
                             const float* lse) const {
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
                               int first_column) {
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

  /// `sees(i, r, column)` tells which scores exist. The others are dropped after the exponential and
  /// not before, because their lse may be NaN.
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
    if (kMax) whole = exp2_approx(whole);
    if (args.divisor != Divisor::kOne) {
      const std::int64_t hidden =
          args.divisor == Divisor::kVisible ? args.mask.query_begin(n) : std::int64_t{0};
      whole /= static_cast<float>(max(args.mask.M - hidden, std::int64_t{1}));
    }
    store_element(args, static_cast<std::int64_t>(item.part) * args.stationary.rows + n, whole);
  }

  /// Rounds once, to the output's type.
  __device__ static void store_element(const PassArguments& args, std::int64_t index, float value) {
    if (args.out_dtype == DType::kF32) {
      static_cast<float*>(args.out)[index] = value;
    } else if (args.out_dtype == DType::kF16) {
      static_cast<__half*>(args.out)[index] = __float2half_rn(value);
    } else {
      static_cast<__nv_bfloat16*>(args.out)[index] = __float2bfloat16_rn(value);
    }
  }
};

}  // namespace attn::colreduce
