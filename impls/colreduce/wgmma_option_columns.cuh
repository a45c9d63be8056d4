// Pass 2 of the wgmma column reduction where a problem has options: query heads that share a
// stationary tile of keys stream past it one after another, and may add up to one output.
#pragma once

#include <cstdint>

#include "impls/colreduce/wgmma_columns.cuh"
#include "impls/colreduce/wgmma_option_items.cuh"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {

/// A head's columns end in the lane that stores them, one of a thread's two rows each. What several
/// heads add up to waits there in shared memory, from one item of a chain to the next.
template <bool kMax>
struct WgmmaOptionColumnPass : WgmmaColumnPass<kMax, WgmmaOptionItems> {
  using Base = WgmmaColumnPass<kMax, WgmmaOptionItems>;
  static constexpr bool kEachHead = true;

  /// All queries of the item's head `head` have passed: takes what they weigh, or the largest
  /// exponent, and clears it. `row` is the first of the thread's two, `total` its own float.
  __device__ void finish_heads(const WgmmaOptionArguments& args,
                               const WgmmaOptionItem& item,
                               int head,
                               int row,
                               int lane,
                               float& total) {
    finish_head(args, item, head, row, lane, total, this->result);
  }

  __device__ void store(const WgmmaOptionArguments&, const WgmmaOptionItem&, int, int, int) {}

 protected:
  __device__ static void finish_head(const WgmmaOptionArguments& args,
                                     const WgmmaOptionItem& item,
                                     int head,
                                     int row,
                                     int lane,
                                     float& total,
                                     float (&own)[2]) {
    const float whole[2] = {warp_reduce<4>(own[0], &Base::combine),
                            warp_reduce<4>(own[1], &Base::combine)};
    own[0] = own[1] = Base::kNothing;
    if (lane % 4 < 2) {  // the first two lanes of a quad have one row each
      const float reduced = lane % 2 == 0 ? whole[0] : whole[1];
      float weight = kMax ? exp2_approx(reduced) : reduced;
      const int n = row + lane % 2 * 8;
      if (args.numbers.combined == 1) {
        store_weight(args, item, item.out_row + head, n, weight);
      } else {
        // Weights are never negative: 0 is where sums and maxima begin.
        weight = args.max_over_heads ? MaxOrNan{}(total, weight) : total + weight;
        const bool complete = item.last_of_chain && head + 1 == item.heads;
        if (complete) store_weight(args, item, item.out_row, n, weight);
        total = complete ? 0.0f : weight;
      }
    }
    __syncwarp();  // products need the whole warp together
  }

 private:
  /// out[out_row, n] over what divides it: for a mean the queries that are counted, and the heads.
  __device__ static void store_weight(const WgmmaOptionArguments& args,
                                      const WgmmaOptionItem& item,
                                      int out_row,
                                      int n,
                                      float weight) {
    if (n >= item.rows) return;
    const AttentionMask& mask = item.mask;
    std::int64_t count = 1;
    if (args.divisor == Divisor::kAll) count = mask.M;
    if (args.divisor == Divisor::kVisible) count = mask.query_end(n) - mask.query_begin(n);
    const float divisor = args.averaged * static_cast<float>(max(count, std::int64_t{1}));
    store_rounded(args.out, args.out_dtype, out_row * args.out_pitch + item.stationary_origin + n,
                  weight / divisor);
  }
};

}  // namespace attn::colreduce
