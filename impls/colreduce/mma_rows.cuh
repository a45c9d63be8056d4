// Pass 1 of the tensor-core column reduction: the normaliser of each query, queries stationary.
#pragma once

#include <cmath>

#include "impls/colreduce/mma_pipeline.cuh"
#include "impls/colreduce/mma_policies.cuh"
#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {

/// Stationary rows are queries, streamed rows keys: lse_log2[m] = log2 sum_n 2^(scale_log2 s[m,n]).
///
/// Each thread runs its own softmax over the columns that it meets, for each of its rows. The
/// reference of a row stays what it is as long as sums of 2^(score - reference) stay below kLimit;
/// only a tile that exceeds it is computed again, with its maximum. So a maximum per score costs
/// nothing in the common case, and nothing is lost: fp32 keeps its relative precision up to 2^127.
template <class Policy, bool kOptions>
struct RowPass : FinishesAtTheEnd {
  using Arguments = PassArgumentsOf<kOptions>;
  static constexpr bool kStreamsQueries = false;
  static constexpr int kStageBytes = Policy::kSlotBytes;
  static constexpr int kExchangeBytes =
      Policy::kRows * Policy::kColumnWarps * static_cast<int>(sizeof(OnlineSoftmax));
  static constexpr int kSharedBytes = Policy::kStages * kStageBytes + kExchangeBytes;
  static constexpr float kLimit = 0x1p60f;

  OnlineSoftmax softmax[Policy::kRowTiles][2];

  template <class AnyItem>
  __device__ RowPass(const Arguments&, const AnyItem&, int) {}

  __device__ static Interval visible(const AttentionMask& mask, int m) {
    return {kOptions ? mask.key_begin(m) : 0, mask.key_end(m)};
  }

  /// Sums into `part` (over it, at the `first` call) the weights of a chunk that every row sees.
  __device__ void accumulate(RowValues<Policy>& part,
                             bool first,
                             const ScoreChunk<Policy>& chunk,
                             float scale_log2,
                             const float*,
                             float*) const {
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

  /// Takes a tile's sums, or tells the warp that one of them is too large: then nothing has
  /// changed.
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
                               int first_column,
                               float*) {
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

  __device__ void end_head(const Arguments&, std::uint32_t, unsigned char*, std::uint32_t) {}

  template <class AnyItem>
  __device__ void store(const Arguments& args,
                        const AnyItem& item,
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
    if (row >= Policy::kRows || item.first_row + row >= stationary_count(args, item)) return;
    OnlineSoftmax whole = shared[row];
#pragma unroll
    for (int part = 1; part < Policy::kColumnWarps; ++part)
      whole.merge(shared[part * Policy::kRows + row]);
    stationary_lse(args, item)[row] = whole.sum == 0.0f ? args.lse_without_key : whole.lse_log2();
  }
};

/// The kernel of the pass; `narrow`: 64 queries a CTA.
template <bool kOptions>
PassKernel row_kernel(DType dtype, std::int64_t D, bool narrow) {
  PassKernel kernel;
  dispatch_padded(D, [&](auto padded) {
    using Narrow = NarrowPolicy<padded>;
    using Wide = WidePolicy<padded>;
    kernel = narrow ? pass_kernel<Narrow, RowPass<Narrow, kOptions>>(dtype)
                    : pass_kernel<Wide, RowPass<Wide, kOptions>>(dtype);
  });
  return kernel;
}

}  // namespace attn::colreduce
