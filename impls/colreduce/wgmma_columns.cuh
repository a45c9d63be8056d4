// Pass 2 of the wgmma column reduction: the reduction over the queries of each key, keys
// stationary. An accumulator's rows are keys, so that a column of the attention matrix is summed
// within threads, without atomics and always in the same order.
#pragma once

#include <cmath>

#include "impls/colreduce/mma_output.cuh"
#include "impls/colreduce/wgmma_pipeline.cuh"
#include "impls/common/online_softmax.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {

/// Stationary rows are keys, streamed rows queries with their lse_log2:
/// out[n] = sum over m of 2^(scale_log2 s[m,n] - lse_log2[m]), over a divisor, or the maximum.
template <bool kMax, class Items_ = WgmmaPlainItems>
struct WgmmaColumnPass {
  using Items = Items_;
  static constexpr bool kReadsLse = true;
  static constexpr bool kEachHead = false;    // finishes each head of an item
  static constexpr bool kPacked = false;      // a streamed tile holds several heads
  static constexpr bool kClearsRows = false;  // those behind a sequence: no row notices another
  static constexpr float kNothing = kMax ? -INFINITY : 0.0f;  // becomes 0 in both

  // The sum of weights, or the largest exponent, of the thread's two rows.
  float result[2] = {kNothing, kNothing};

  __device__ static VisibleColumns visible(const AttentionMask& mask, int n) {
    return Items::queries(mask, n);
  }

  __device__ static float combine(float a, float b) { return combine_columns<kMax>(a, b); }

  /// Takes a chunk that every row sees.
  template <int kScores>
  __device__ bool take_all(const float (&scores)[kScores], float scale_log2, const float* lse) {
    reduce(scores, scale_log2, lse, [](int, int) { return true; });
    return true;
  }

  /// Takes those scores of a chunk that exist.
  template <int kScores>
  __device__ void take_visible(float (&scores)[kScores],
                               float scale_log2,
                               const float* lse,
                               const AttentionMask& mask,
                               int row,
                               int first_column) {
    const ColumnRange range[2] = {range_from(visible(mask, row), first_column),
                                  range_from(visible(mask, row + 8), first_column)};
    reduce(scores, scale_log2, lse, [&](int r, int column) { return range[r].holds(column); });
  }

  /// `sees(r, column)` tells which scores exist. The others are dropped after the exponential and
  /// not before, because their lse may be anything. `lse` is that of the thread's first column.
  template <int kScores, class Sees>
  __device__ void reduce(const float (&scores)[kScores],
                         float scale_log2,
                         const float* lse,
                         Sees sees) {
    float part[2] = {kNothing, kNothing};
#pragma unroll
    for (int j = 0; j < kScores / 4; ++j) {
      const float2 pair = *reinterpret_cast<const float2*>(lse + 8 * j);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const float exponent = fmaf(scores[4 * j + c], scale_log2, c % 2 ? -pair.y : -pair.x);
        float value = kMax ? exponent : exp2_approx(exponent);
        if (!sees(c / 2, score_column(4 * j + c))) value = kNothing;
        part[c / 2] = combine(part[c / 2], value);
      }
    }
    result[0] = combine(result[0], part[0]);
    result[1] = combine(result[1], part[1]);
  }

  /// `row` is the first of the thread's two.
  __device__ void store(
      const WgmmaArguments& args, const WgmmaItem& item, int row, int /*warp*/, int lane) {
    const float whole[2] = {warp_reduce<4>(result[0], &WgmmaColumnPass::combine),
                            warp_reduce<4>(result[1], &WgmmaColumnPass::combine)};
    // The first two lanes of a quad store one row each.
    const int n = row + lane % 2 * 8;
    if (lane % 4 >= 2 || n >= args.rows) return;
    store_column<kMax>(args, item.head, n, lane % 2 == 0 ? whole[0] : whole[1]);
  }
};

}  // namespace attn::colreduce
