// Weighted sums of 16-bit rows in shared memory on tensor cores, of fp32 class: for outputs o
//   sum over rows k of weight[o, k] row_k.
//
// An m16n8k8 product has two blocks of eight outputs as its rows and eight columns of eight staged rows. A
// weight is the exact sum of three 16-bit terms, a product each. Products of 16-bit numbers are exact, and
// chains are short (tensor cores cut off what an addition loses): three products for eight rows.
//
// Columns are handed out so that the accumulators of four products hold eight neighbouring columns of an
// output in a thread: one 16-byte store, no exchange between lanes.
//
// Every output's weights of every row are there, zeros where the output has none of the row: outputs whose
// rows may hold what is not finite must not share a tile with others.
#pragma once

#include <cstdint>
#include <type_traits>

#include "impls/arch/sm80/mma.cuh"
#include "impls/attnres/columns.cuh"
#include "impls/attnres/weight_terms.h"
#include "impls/common/vector_io.cuh"

namespace attn::attnres {

/// Weights are held times this. An f16 term ends at 2^-24; so scaled, weights in [kLeastWeight, 1] keep 24 bits.
template <class T>
inline constexpr float kWeightScale = std::is_same_v<T, __half> ? 32768.0f : 1.0f;
/// What a weight other than 0 must be at least; bf16 has all exponents of fp32.
template <class T>
inline constexpr float kLeastWeight = std::is_same_v<T, __half> ? 0x1p-16f : 0.0f;

/// Terms of weights in shared memory, [blocks][tiles][terms], as a left operand has them: a lane's word is
/// at its own index.
struct TermTiles {
  std::uint32_t* words;
  int tiles;  ///< of staged rows

  __device__ std::uint32_t* tile(int block, int index) const {
    return words + (block * tiles + index) * kTileWords;
  }
  /// Sets output `output`'s weight of staged row `row`.
  template <class T>
  __device__ void put(int output, int row, float weight) const {
    T* at = reinterpret_cast<T*>(tile(output / kTileRows, row / kTileRows)) +
            output % kTileRows * kTileRows + row % kTileRows;
    float left = weight * kWeightScale<T>;
#pragma unroll
    for (int term = 0; term < kWeightTerms; ++term, at += kTileRows * kTileRows) {
      *at = from_float<T>(left);
      left -= to_float(*at);
    }
  }
};

/// The left operands of two blocks of outputs and one tile of rows.
struct LeftTerms {
  std::uint32_t word[2][kWeightTerms];

  /// The second block is zeros where there is none.
  __device__ static LeftTerms load(
      const TermTiles& terms, int block, bool two, int tile, int lane) {
    LeftTerms left{};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (half == 1 && !two) break;
      const std::uint32_t* words = terms.tile(block + half, tile) + lane;
#pragma unroll
      for (int term = 0; term < kWeightTerms; ++term) left.word[half][term] = words[32 * term];
    }
    return left;
  }
};

/// Where a lane reads of the two rows 2 (lane mod 4) and the next of a tile; offsets in bytes from `rows`.
struct TileLane {
  const char* even;
  const char* odd;
  std::uint32_t half;  ///< __byte_perm's selector of a word's half

  /// Rows behind the last are the last; their weights are zeros.
  __device__ static TileLane of(const char* rows, int pitch, int count, int tile, int lane) {
    const int row = tile * kTileRows + lane % 4 * 2;
    const int column = lane / 8 * 16;
    return {rows + min(row, count - 1) * pitch + column,
            rows + min(row + 1, count - 1) * pitch + column, lane / 4 % 2 == 0 ? 0x5410u : 0x7632u};
  }
};

/// sums[j] += weights times columns 8 (i / 2) + 2 j + i mod 2, i in [0, 8), of the 32 columns that begin
/// `offset` bytes into the rows: a lane's columns of outputs lane / 4 and lane / 4 + 8 are
/// 8 (lane mod 4) + 2 j and the next.
template <class T>
__device__ inline void add_weighted_rows(const LeftTerms& left,
                                         const TileLane& rows,
                                         int offset,
                                         float (&sums)[4][4]) {
  const uint4 even = *reinterpret_cast<const uint4*>(rows.even + offset);
  const uint4 odd = *reinterpret_cast<const uint4*>(rows.odd + offset);
  const std::uint32_t right[4] = {
      __byte_perm(even.x, odd.x, rows.half), __byte_perm(even.y, odd.y, rows.half),
      __byte_perm(even.z, odd.z, rows.half), __byte_perm(even.w, odd.w, rows.half)};
#pragma unroll
  for (int term = kWeightTerms - 1; term >= 0; --term) {  // small ones first
#pragma unroll
    for (int j = 0; j < 4; ++j)
      sm80::mma_m16n8k8<T>(sums[j], {left.word[0][term], left.word[1][term]}, right[j]);
  }
}

/// The eight neighbouring columns of one of a lane's two outputs.
template <class T>
__device__ inline void take_columns(const float (&sums)[4][4], int half, float (&x)[kColumns]) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i)
    x[i] = sums[i / 2][2 * half + i % 2] * (1.0f / kWeightScale<T>);
}

}  // namespace attn::attnres
