// Inner products of 16-bit rows in shared memory on tensor cores: every left row with every right row,
// and the squares of the right rows. fp32 sums of exact products.
//
// An m16n8k16 product has eight right rows as its columns. Their registers as right operand are those
// of rows 8 to 15 of a left operand: the same instruction that multiplies eight left rows also gives
// the right rows' products with each other, whose diagonal are the squares. A column depends on its own
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

/// What the left operand's 16 rows are.
enum class Left : std::uint8_t {
  kRows,            // 16 left rows
  kRowsAndSquares,  // 8 left rows, and the right rows themselves
  kSquares          // the right rows themselves, and zeros
};

/// Tensor cores cut off what an addition loses, always towards zero: the sum of at most so many steps is
/// one fp32 addend.
inline constexpr int kChainSteps = 8;

/// sums[0], [1]: row lane / 4 of the left operand with right rows 2 (lane mod 4) and the next; [2], [3]:
/// row lane / 4 + 8. `left` and `right` are the lane's ldmatrix addresses of the first step.
template <class T, Left kLeft>
__device__ inline void multiply_rows(std::uint32_t left,
                                     std::uint32_t right,
                                     int steps,
                                     float (&sums)[4]) {
  constexpr int kStepBytes = 2 * kStepColumns;
  for (int begin = 0; begin < steps; begin += kChainSteps) {
    float even[4] = {};  // two chains of dependent products
    float odd[4] = {};
    const int end = min(steps, begin + kChainSteps);
#pragma unroll 2
    for (int step = begin; step < end; ++step, left += kStepBytes, right += kStepBytes) {
      std::uint32_t b[4];
      sm80::ldmatrix_x4(b, right);
      if constexpr (kLeft == Left::kRows) {
        std::uint32_t a[4];
        sm80::ldmatrix_x4(a, left);
        sm80::mma_m16n8k16<T>(even, a, b[0], b[1]);
        sm80::ldmatrix_x4(a, left + kStepBytes / 2);
        sm80::mma_m16n8k16<T>(odd, a, b[2], b[3]);
      } else if constexpr (kLeft == Left::kRowsAndSquares) {
        std::uint32_t q[4];
        sm80::ldmatrix_x4(q, left);
        sm80::mma_m16n8k16<T>(even, {q[0], b[0], q[1], b[1]}, b[0], b[1]);
        sm80::mma_m16n8k16<T>(odd, {q[2], b[2], q[3], b[3]}, b[2], b[3]);
      } else {
        sm80::mma_m16n8k16<T>(even, {b[0], 0, b[1], 0}, b[0], b[1]);
        sm80::mma_m16n8k16<T>(odd, {b[2], 0, b[3], 0}, b[2], b[3]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += even[i] + odd[i];
  }
}

/// The byte of a step at which a lane's ldmatrix row begins, and which of eight or 16 rows it is. Eight
/// rows: lanes 8 i to 8 i + 7 have columns 8 i and up; 16 rows: lanes from 16 on have columns 8 and up.
__device__ inline std::uint32_t lane_address(const StagedRows& rows, int first, int lane) {
  return rows.row(first + lane % 8) + static_cast<std::uint32_t>(lane / 8 * 16);
}
__device__ inline std::uint32_t lane_address_16(const StagedRows& rows, int first, int lane) {
  return rows.row(first + lane % 16) + static_cast<std::uint32_t>(lane / 16 * 16);
}

/// Stores the products of a left operand: left rows from `row` on, right rows from `column` on.
template <Left kLeft>
__device__ inline void store_products(
    const float (&sums)[4], int rows, int row, int column, int pitch, int lane, float* to) {
  const int g = lane / 4;
  const int t = lane % 4;
  float* at = to + column + 2 * t;
  if (kLeft != Left::kSquares && row + g < rows)
    *reinterpret_cast<float2*>(at + (row + g) * pitch) = make_float2(sums[0], sums[1]);
  if (kLeft == Left::kRows && row + g + 8 < rows)
    *reinterpret_cast<float2*>(at + (row + g + 8) * pitch) = make_float2(sums[2], sums[3]);
  if (kLeft != Left::kRows && t == g / 2) {  // right row g with itself
    constexpr int kFirst = kLeft == Left::kSquares ? 0 : 2;
    to[rows * pitch + column + g] = g % 2 == 0 ? sums[kFirst] : sums[kFirst + 1];
  }
}

/// Floats of `left` rows' products with `right` rows, and of the squares behind them.
constexpr int product_pitch(int right) { return (right + 7) / 8 * 8; }
constexpr int product_floats(int left, int right, bool squares) {
  return (left + (squares ? 1 : 0)) * product_pitch(right);
}

/// A warp's products over the columns of steps [first_step, first_step + steps): to[i * pitch + j] of
/// left row i and right row j, with pitch = product_pitch(right.count); in row left.count the squares,
/// if they are asked for. `to` is aligned to 8 bytes; columns behind the last right row are undefined.
template <class T, bool kSquares>
__device__ inline void warp_products(const StagedRows& left,
                                     const StagedRows& right,
                                     int first_step,
                                     int steps,
                                     int lane,
                                     float* to) {
  const int pitch = product_pitch(right.count);
  const auto offset = static_cast<std::uint32_t>(first_step * 2 * kStepColumns);
  const auto pass = [&]<Left kLeft>(std::integral_constant<Left, kLeft>, std::uint32_t left_lane,
                                    int row, int column) {
    float sums[4] = {};
    multiply_rows<T, kLeft>(left_lane + offset, lane_address(right, column, lane) + offset, steps,
                            sums);
    store_products<kLeft>(sums, left.count, row, column, pitch, lane, to);
  };
  for (int column = 0; column < right.count; column += 8) {
    int row = 0;
    for (; left.count - row > 8 || (!kSquares && row < left.count); row += 16)
      pass(std::integral_constant<Left, Left::kRows>{}, lane_address_16(left, row, lane), row,
           column);
    if constexpr (kSquares) {
      if (row < left.count) {
        pass(std::integral_constant<Left, Left::kRowsAndSquares>{}, lane_address(left, row, lane),
             row, column);
      } else {
        pass(std::integral_constant<Left, Left::kSquares>{}, 0, row, column);
      }
    }
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
