// Inner products of 16-bit rows in shared memory on tensor cores: every left row with every right row,
// and the squares of the right rows. fp32 sums of exact products.
//
// An m16n8k16 product has up to 16 left rows and eight right rows as its columns. A column depends on its own
// right row alone, a row on its own left row: what is not finite stays there.
#pragma once

#include <cstdint>
#include <type_traits>

#include "impls/arch/sm80/ldmatrix.cuh"
#include "impls/arch/sm80/mma.cuh"
#include "impls/attnres/bulk_config.h"

namespace attn::attnres {

/// Rows of 16-bit elements in shared memory, `pitch` bytes apart, an odd multiple of 16.
struct StagedRows {
  std::uint32_t first;
  int pitch;
  int count;

  /// Rows behind the last are the last: their products are computed, and nobody reads them.
  __device__ std::uint32_t row(int i) const {
    return first + static_cast<std::uint32_t>(min(i, count - 1) * pitch);
  }
};

/// Tensor cores cut off what an addition loses, always towards zero: the sum of at most so many products is
/// one fp32 addend.
inline constexpr int kChainProducts = 8;

/// Squares of eight right rows, eight columns at a time: the registers of two such eights are a left operand
/// of 16 rows, and either of them a right operand that matches one half of it. Nothing is moved.
template <class T>
struct SquareChains {
  float of[2][4] =
      {};  ///< with the first eight columns: rows 0 to 7 count; with the second: rows 8 to 15

  __device__ void add(std::uint32_t low, std::uint32_t high) {
    sm80::mma_m16n8k8<T>(of[0], {low, high}, low);
    sm80::mma_m16n8k8<T>(of[1], {low, high}, high);
  }
  /// Row lane / 4 with row 2 (lane mod 4) + i.
  __device__ float total(int i) const { return of[0][i] + of[1][2 + i]; }
};

/// Sums over a warp's columns of 16 left rows with eight right rows.
struct TileProducts {
  float rows[4] = {};     ///< as an m16n8 product has them
  float squares[2] = {};  ///< right row lane / 4 with right rows 2 (lane mod 4) and the next
};

/// The byte of a step at which a lane's ldmatrix row begins, and which of eight or 16 rows it is. Eight
/// rows: lanes 8 i to 8 i + 7 have columns 8 i and up; 16 rows: lanes from 16 on have columns 8 and up.
__device__ inline std::uint32_t lane_address(const StagedRows& rows, int first, int lane) {
  return rows.row(first + lane % 8) + static_cast<std::uint32_t>(lane / 8 * 16);
}
__device__ inline std::uint32_t lane_address_16(const StagedRows& rows, int first, int lane) {
  return rows.row(first + lane % 16) + static_cast<std::uint32_t>(lane / 16 * 16);
}

/// Where a pass finds the squares.
enum class Squares : std::uint8_t {
  kNone,
  kBelow,  // rows 8 to 15 of the left operand are the right rows: of at most eight left rows
  kApart   // products of their own
};

/// A pass over a warp's columns: up to 16 left rows with kTiles tiles of eight right rows.
template <class T, int kTiles, Squares kSquares>
class ProductPass {
 public:
  /// The first steps of both, from left row `row` and right row `column` on.
  __device__ ProductPass(
      const StagedRows& left, const StagedRows& right, int row, int column, int first, int lane)
      : left_{}, right_{} {
    const auto offset = static_cast<std::uint32_t>(first * kStepBytes);
#pragma unroll
    for (int i = 0; i < kTiles; ++i) right_[i] = lane_address(right, column + 8 * i, lane) + offset;
#pragma unroll
    for (int i = 0; i < kLefts; ++i) {
      const bool below = kSquares == Squares::kBelow && lane % 16 >= 8;
      const std::uint32_t address =
          below ? right.row(column + 8 * i + lane % 8) : left.row(row + lane % 16);
      left_[i] = address + static_cast<std::uint32_t>(lane / 16 * 16) + offset;
    }
  }

  __device__ __forceinline__ void multiply(int steps, TileProducts (&sums)[kTiles]) const {
    if (steps == 0) return;
    Operands next = load(0);
    int step = 0;
#pragma unroll 1
    for (; step + kTogether <= steps; step += kTogether)
      add_steps<kTogether>(step, steps, next, sums);
#pragma unroll 1
    for (; step < steps; ++step) add_steps<1>(step, steps, next, sums);
#pragma unroll
    for (int i = 0; kSquares == Squares::kBelow && i < 2 * kTiles; ++i)
      sums[i / 2].squares[i % 2] = sums[i / 2].rows[2 + i % 2];
  }

 private:
  static constexpr int kStepBytes = 2 * kStepColumns;
  static constexpr int kLefts = kSquares == Squares::kBelow ? kTiles : 1;
  /// Steps of a chain of dependent products.
  static constexpr int kTogether = 4;
  static_assert(2 * kTogether <= kChainProducts, "squares take two products of a step");

  struct Operands {  // of a step
    std::uint32_t left[kLefts][2][4];
    std::uint32_t right[kTiles][4];
  };

  __device__ __forceinline__ Operands load(int step) const {
    const auto at = static_cast<std::uint32_t>(step * kStepBytes);
    Operands operands;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) sm80::ldmatrix_x4(operands.right[i], right_[i] + at);
#pragma unroll
    for (int i = 0; i < 2 * kLefts; ++i)
      sm80::ldmatrix_x4(operands.left[i / 2][i % 2],
                        left_[i / 2] + at + static_cast<std::uint32_t>(i % 2 * kStepBytes / 2));
    return operands;
  }

  /// Steps from `step` on, whose first is `next`; it becomes the one behind them, or the last once more: a step's
  /// operands are loaded during the step before.
  template <int kSteps>
  __device__ __forceinline__ void add_steps(int step,
                                            int steps,
                                            Operands& next,
                                            TileProducts (&sums)[kTiles]) const {
    float rows[kTiles][2][4] = {};  // of a step's halves
    SquareChains<T> squares[kTiles];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const Operands now = next;
      next = load(i + 1 < kSteps ? step + i + 1 : min(step + kSteps, steps - 1));
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          const std::uint32_t low = now.right[tile][2 * half];
          const std::uint32_t high = now.right[tile][2 * half + 1];
          sm80::mma_m16n8k16<T>(rows[tile][half], now.left[tile % kLefts][half], low, high);
          if constexpr (kSquares == Squares::kApart) squares[tile].add(low, high);
        }
      }
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[tile].rows[i] += rows[tile][0][i] + rows[tile][1][i];
#pragma unroll
      for (int i = 0; kSquares == Squares::kApart && i < 2; ++i)
        sums[tile].squares[i] += squares[tile].total(i);
    }
  }

  std::uint32_t left_[kLefts];
  std::uint32_t right_[kTiles];
};

/// Stores a tile's products of left rows from `row` on, right rows from `column` on.
template <Squares kSquares>
__device__ inline void store_products(
    const TileProducts& sums, int rows, int row, int column, int pitch, int lane, float* to) {
  const int g = lane / 4;
  const int t = lane % 4;
  float* at = to + column + 2 * t;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int own = row + g + 8 * half;
    if (own < rows)
      *reinterpret_cast<float2*>(at + own * pitch) =
          make_float2(sums.rows[2 * half], sums.rows[2 * half + 1]);
  }
  if (kSquares != Squares::kNone && t == g / 2)  // right row g with itself
    to[rows * pitch + column + g] = g % 2 == 0 ? sums.squares[0] : sums.squares[1];
}

/// Floats of a row of products with `right` rows.
constexpr int product_pitch(int right) { return (right + 7) / 8 * 8; }

/// A warp's products over the columns of steps [first_step, first_step + steps): to[i * pitch + j] of
/// left row i and right row j, with pitch = product_pitch(right.count); in row left.count the squares.
/// `to` is aligned to 8 bytes; columns behind the last right row are undefined. At most kTiles tiles of right
/// rows, 0: any number.
template <class T, int kTiles>
__device__ inline void warp_products(const StagedRows& left,
                                     const StagedRows& right,
                                     int first_step,
                                     int steps,
                                     int lane,
                                     float* to) {
  constexpr int kTogether = kTiles == 2 ? 2 : 1;
  const int pitch = product_pitch(right.count);
  const auto pass = [&]<Squares kSquares>(std::integral_constant<Squares, kSquares>, int row,
                                          int column) {
    TileProducts sums[kTogether];
    ProductPass<T, kTogether, kSquares>(left, right, row, column, first_step, lane)
        .multiply(steps, sums);
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      if (column + 8 * i < pitch)
        store_products<kSquares>(sums[i], left.count, row, column + 8 * i, pitch, lane, to);
    }
  };
  const auto tiles = [&](int column) {
    if constexpr (kTiles != 2) {  // of two tiles the loads would be too many
      if (left.count <= 8)
        return pass(std::integral_constant<Squares, Squares::kBelow>{}, 0, column);
    }
    pass(std::integral_constant<Squares, Squares::kApart>{}, 0, column);
    for (int row = 16; row < left.count; row += 16)
      pass(std::integral_constant<Squares, Squares::kNone>{}, row, column);
  };
  tiles(0);
  if constexpr (kTiles == 0) {
    for (int column = 8; column < right.count; column += 8) tiles(column);
  }
}

/// The steps of a row that warp `warp` of `warps` multiplies: [first, first + count).
struct StepRange {
  int first, count;
};
constexpr StepRange steps_of(int steps, int warp, int warps) {
  const int first = warp * steps / warps;
  return {first, (warp + 1) * steps / warps - first};
}

}  // namespace attn::attnres
