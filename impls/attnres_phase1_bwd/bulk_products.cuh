// Inner products of a token on tensor cores: every source with the queries, with their dout and with
// itself.
#pragma once

#include <cstdint>

#include "impls/attnres/depth_products.cuh"
#include "impls/attnres_phase1_bwd/bulk_sm90.h"

namespace attn::attnres_phase1_bwd {
namespace bulk {

/// A warp's products over its steps of 32 columns. A step of the sources is read once for all of them.
///
/// Left operands come from memory as their registers lie, and nothing is moved: of up to eight queries
/// they are rows 0 to 7 of one operand, their dout rows 8 to 15; of more each has an operand of its own.
template <class T, int kQueries>
class TokenProducts {
 public:
  /// Of the rows at addresses `stage` (N sources, S dout) and `queries`, over steps `own`.
  __device__ TokenProducts(const BulkArguments& p,
                           std::uint32_t stage,
                           std::uint32_t queries,
                           const StepShare& own,
                           int lane)
      : p_(p),
        sources_{stage, p.memory.pitch, p.N},
        offset_(static_cast<std::uint32_t>(own.first * kStepBytes)),
        steps_(own.count),
        lane_(lane) {
    const attnres::StagedRows rows{queries, p.memory.pitch, p.S};
    const attnres::StagedRows dout{stage + static_cast<std::uint32_t>(p.N * p.memory.pitch),
                                   p.memory.pitch, p.S};
    if constexpr (kTiles == 1) {
      const attnres::StagedRows& own_rows = lane % 16 < 8 ? rows : dout;
      left_[0] =
          offset_ + own_rows.row(lane % 8) + static_cast<std::uint32_t>(lane / 16 * kStepBytes / 4);
    } else {
      left_[0] = offset_ + attnres::lane_address_16(rows, 0, lane);
      left_[1] = offset_ + attnres::lane_address_16(dout, 0, lane);
    }
  }

  /// The products with sources [column, column + 8), for `store`.
  __device__ __forceinline__ void multiply(int column) {
    total_ = {};
    const std::uint32_t right = offset_ + attnres::lane_address(sources_, column, lane_);
    Operands next;
    if constexpr (kAhead) next = load(0, right);
    int step = 0;
#pragma unroll 1
    for (; step + kTogether <= steps_; step += kTogether) add_steps<kTogether>(step, right, next);
#pragma unroll 1
    for (; step < steps_; ++step) add_steps<1>(step, right, next);
  }

  /// to [2 S + 1, padded]: products of queries, squares, products of dout.
  __device__ void store(int column, float* to) const {
    const int g = lane_ / 4;
    const int t = lane_ % 4;
    const int pitch = p_.memory.padded;
    if (column + 2 * t >= pitch) return;  // padded to fours: a pair exists or does not
    float* at = to + column + 2 * t;
    float* products = at + (p_.S + 1) * pitch;
    const float(&x)[kTiles][4] = total_.left;
    if (g < p_.S) {
      store_pair(at + g * pitch, x[0][0], x[0][1]);
      if constexpr (kTiles == 1) {
        store_pair(products + g * pitch, x[0][2], x[0][3]);
      } else {
        store_pair(products + g * pitch, x[1][0], x[1][1]);
      }
    }
    if constexpr (kTiles == 2) {
      if (g + 8 < p_.S) {
        store_pair(at + (g + 8) * pitch, x[0][2], x[0][3]);
        store_pair(products + (g + 8) * pitch, x[1][2], x[1][3]);
      }
    }
    if (t == g / 2)  // source g with itself
      at[p_.S * pitch + g % 2] = g % 2 == 0 ? total_.squares[0] : total_.squares[1];
  }

 private:
  static constexpr int kStepBytes = 2 * attnres::kStepColumns;
  static constexpr int kTiles = (kQueries + 7) / 8;  // left operands
  static constexpr bool kAhead =
      kTiles == 1;  // a step's operands are loaded during the step before:
                    // there are registers for those of up to eight queries
  /// Steps of a chain of dependent products.
  static constexpr int kTogether = kTiles == 1 ? 4 : 2;
  static_assert(kTiles <= 2, "a left operand has sixteen rows");
  static_assert(2 * kTogether <= attnres::kChainProducts, "squares take two products of a step");

  struct Totals {
    float left[kTiles][4];
    float squares[2];  // sources 2 t and 2 t + 1 with source g
  };
  struct Operands {  // of a step
    std::uint32_t right[4];
    std::uint32_t left[2][kTiles][4];  // of its halves
  };
  struct Chains {
    float left[2][kTiles][4] = {};  // of a step's two halves
    attnres::SquareChains<T> squares;
  };

  __device__ static void store_pair(float* to, float x, float y) {
    *reinterpret_cast<float2*>(to) = make_float2(x, y);
  }

  /// Of step `step`, counted from the warp's first.
  __device__ __forceinline__ Operands load(int step, std::uint32_t right) const {
    const auto at = static_cast<std::uint32_t>(step * kStepBytes);
    Operands operands;
    sm80::ldmatrix_x4(operands.right, right + at);
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i)
      sm80::ldmatrix_x4(
          operands.left[i / kTiles][i % kTiles],
          left_[i % kTiles] + at + static_cast<std::uint32_t>(i / kTiles * kStepBytes / 2));
    return operands;
  }

  /// Steps from `step` on, whose first, where loads run ahead, is `next`; it becomes the one behind them, or
  /// the last once more.
  template <int kSteps>
  __device__ __forceinline__ void add_steps(int step, std::uint32_t right, Operands& next) {
    Chains chains;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      if constexpr (!kAhead) next = load(step + i, right);
      const Operands now = next;
      if constexpr (kAhead)
        next = load(i + 1 < kSteps ? step + i + 1 : min(step + kSteps, steps_ - 1), right);
      multiply_step(now, chains);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        total_.left[tile][i] += chains.left[0][tile][i] + chains.left[1][tile][i];
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) total_.squares[i] += chains.squares.total(i);
  }

  __device__ static __forceinline__ void multiply_step(const Operands& step, Chains& chains) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t low = step.right[2 * half];
      const std::uint32_t high = step.right[2 * half + 1];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
        sm80::mma_m16n8k16<T>(chains.left[half][tile], step.left[half][tile], low, high);
      chains.squares.add(low, high);
    }
  }

  const BulkArguments& p_;
  attnres::StagedRows sources_;
  std::uint32_t offset_;
  std::uint32_t left_[kTiles];
  int steps_, lane_;
  Totals total_;
};

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
