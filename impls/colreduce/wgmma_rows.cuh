// Pass 1 of the wgmma column reduction: the normaliser of each query, queries stationary.
#pragma once

#include <cmath>

#include "impls/colreduce/wgmma_pipeline.cuh"
#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {

/// Stationary rows are queries, streamed rows keys: lse_log2[m] = log2 sum_n 2^(scale_log2 s[m,n]).
///
/// The lazy reference of mma_rows.cuh: each thread runs its own softmax over the columns that it
/// meets, for its two rows, and a row's reference stays as long as a chunk's sum of
/// 2^(score - reference) stays below kLimit. A chunk that exceeds it is taken again from the
/// accumulator, with its maximum.
template <class Items_ = WgmmaPlainItems>
struct WgmmaRowPass {
  using Items = Items_;
  static constexpr bool kReadsLse = false;
  static constexpr bool kEachHead = false;
  static constexpr bool kPacked = false;
  // Whether a chunk must be taken again is a question to all rows of a warp.
  static constexpr bool kClearsRows = Items::kOptions;
  static constexpr float kLimit = 0x1p60f;

  OnlineSoftmax softmax[2];  // max: the reference, at most the maximum so far
  bool fresh = true;         // nothing taken yet; the same for all lanes

  __device__ static VisibleColumns visible(const AttentionMask& mask, int m) {
    return Items::keys(mask, m);
  }

  /// Takes a chunk that every row sees, unless a sum becomes too large: then nothing changes.
  template <int kScores>
  __device__ bool take_all(const float (&scores)[kScores], float scale_log2, const float*) {
    if (fresh) {  // any score will do as the first reference: the largest of four
      fresh = false;
#pragma unroll
      for (int i = 0; i < 16; ++i)
        if (i % 2 == 0)
          softmax[i / 2 % 2].max = fmaxf(softmax[i / 2 % 2].max, scores[i] * scale_log2);
    }
    float part[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < kScores; ++i)
      part[i / 2 % 2] += exp2_approx(fmaf(scores[i], scale_log2, -softmax[i / 2 % 2].max));
    // A reference of -inf or +inf makes the sum +inf or NaN, which fails as well.
    if (__any_sync(0xffffffffu, !(part[0] + part[1] < kLimit))) return false;
    softmax[0].sum += part[0];
    softmax[1].sum += part[1];
    return true;
  }

  /// The online softmax proper, over those scores of a chunk that exist; overwrites them.
  template <int kScores>
  __device__ void take_visible(float (&scores)[kScores],
                               float scale_log2,
                               const float*,
                               const AttentionMask& mask,
                               int row,
                               int first_column) {
    fresh = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const ColumnRange range = range_from(visible(mask, row + 8 * r), first_column);
      OnlineSoftmax& own = softmax[r];
      const float old_max = own.max;
#pragma unroll
      for (int i = 2 * r; i < kScores; i += i % 2 == 0 ? 1 : 3) {
        scores[i] = range.holds(score_column(i)) ? scores[i] * scale_log2 : -INFINITY;
        own.max = fmaxf(own.max, scores[i]);
      }
      const float from = own.origin();
      own.sum *= exp2_approx(old_max - from);
#pragma unroll
      for (int i = 2 * r; i < kScores; i += i % 2 == 0 ? 1 : 3)
        own.sum += exp2_approx(scores[i] - from);
    }
  }

  /// `row` is the first of the thread's two.
  __device__ void store(const typename Items::Arguments& args,
                        const typename Items::Item& item,
                        int row,
                        int warp,
                        int lane) {
    softmax[0].merge_lanes<4>();
    softmax[1].merge_lanes<4>();
    // The first two lanes of a quad store one row each.
    const OnlineSoftmax whole = lane % 2 == 0 ? softmax[0] : softmax[1];
    const int m = row + lane % 2 * 8;
    if (lane % 4 >= 2 || m >= Items::rows(args, item)) return;
    args.lse_log2[Items::lse_index(args, item, warp, m)] =
        whole.sum == 0.0f ? args.lse_without_key : whole.lse_log2();
  }
};

}  // namespace attn::colreduce
