// Weighted sums of 16-bit rows in shared memory on tensor cores, of fp32 class: for outputs o
//   sum over rows k of weight[o, k] row_k.
//
// An m16n8k8 product has sixteen columns of eight staged rows as its left operand and the weights of a block of
// eight outputs as its right one. A weight is the exact sum of three 16-bit terms, a product each. Products
// of 16-bit numbers are exact, and chains are short (tensor cores cut off what an addition loses): three
// products for eight rows.
//
// Columns are handed out so that the accumulators of four products hold eight neighbouring columns of two
// outputs in a thread, and eight threads 128 bytes of an output: whole lines, and no exchange.
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

/// Terms of weights in shared memory, [blocks][tiles][terms], as a right operand has them: a lane's word is
/// at its own index.
struct TermTiles {
  std::uint32_t* words;
  int tiles;    ///< of staged rows
  bool packed;  ///< two tiles with at most kPackedRows rows: PackedColumns

  __device__ std::uint32_t* tile(int block, int index) const {
    return words + (block * tiles + index) * kTileWords;
  }
  /// Sets output `output`'s weight of staged row `row`, the large term first. Packed, the first eight rows' terms are
  /// three of the four matrices of two products, and the last one has, where output o has two numbers a lane of four,
  /// row 8 in lanes 0 and 1 and row 9 in lanes 2 and 3: small, middle, large, nothing. kMayPack: of a kernel of two
  /// tiles; the others need not ask.
  template <class T, bool kMayPack>
  __device__ void put(int output, int row, float weight) const {
    constexpr int kMatrix = kTileRows * kTileRows;
    const bool packs = kMayPack && packed;
    const bool behind = packs && row >= kTileRows;
    T* at = reinterpret_cast<T*>(tile(output / kTileRows, packs ? 0 : row / kTileRows)) +
            output % kTileRows * kTileRows;
    at += behind ? 3 * kMatrix + row % kTileRows * 4 + 2
                 : row % kTileRows + (packs ? 2 * kMatrix : 0);
    const int step = behind ? -1 : packs ? -kMatrix : kMatrix;
    float left = weight * kWeightScale<T>;
#pragma unroll
    for (int term = 0; term < kWeightTerms; ++term, at += step) {
      *at = from_float<T>(left);
      left -= to_float(*at);
    }
  }
};

inline constexpr int kChunkProducts = 4;

/// Columns of a tile of rows as left operands: product j has columns 8 g + 2 j as its rows g = lane / 4 and
/// the next as its rows g + 8.
struct ChunkColumns {
  std::uint32_t word[kChunkProducts][2];

  /// Of the `count` rows at `rows`, `pitch` bytes apart; `column` is the byte of the lane's eight columns.
  /// Rows behind the last are the last; their weights are zeros.
  __device__ static ChunkColumns load(
      const char* rows, int pitch, int count, int tile, int column, int lane) {
    const int row = tile * kTileRows + lane % 4 * 2;
    const uint4 even = *reinterpret_cast<const uint4*>(rows + min(row, count - 1) * pitch + column);
    const uint4 odd =
        *reinterpret_cast<const uint4*>(rows + min(row + 1, count - 1) * pitch + column);
    const std::uint32_t upper[kChunkProducts] = {even.x, even.y, even.z, even.w};
    const std::uint32_t lower[kChunkProducts] = {odd.x, odd.y, odd.z, odd.w};
    ChunkColumns columns;
#pragma unroll
    for (int j = 0; j < kChunkProducts; ++j) {
      columns.word[j][0] = __byte_perm(upper[j], lower[j], 0x5410);
      columns.word[j][1] = __byte_perm(upper[j], lower[j], 0x7632);
    }
    return columns;
  }
};

/// Columns of two tiles of at most kPackedRows rows, as left operands of two products of sixteen instead of three:
/// all terms of the first eight rows, the small ones first, take three quarters of them; a lane's last words
/// hold row 8 or 9 twice, for two terms of it. Where its weights lie: TermTiles::put.
struct PackedColumns {
  std::uint32_t word[kChunkProducts][4];

  /// Of a tile and the next, as ChunkColumns::load.
  __device__ static PackedColumns load(
      const char* rows, int pitch, int count, int tile, int column, int lane) {
    const int next = (tile + 1) * kTileRows;
    const ChunkColumns first = ChunkColumns::load(rows, pitch, next, tile, column, lane);
    const int row = min(next + lane % 4 / 2, count - 1);
    const uint4 behind = *reinterpret_cast<const uint4*>(rows + row * pitch + column);
    const std::uint32_t twice[kChunkProducts] = {behind.x, behind.y, behind.z, behind.w};
    PackedColumns columns;
#pragma unroll
    for (int j = 0; j < kChunkProducts; ++j) {
      columns.word[j][0] = first.word[j][0];
      columns.word[j][1] = first.word[j][1];
      columns.word[j][2] = __byte_perm(twice[j], 0, 0x1010);
      columns.word[j][3] = __byte_perm(twice[j], 0, 0x3232);
    }
    return columns;
  }
};

/// Sums of a block of outputs: sums[j] has columns 8 (lane / 4) + 2 j and the next of outputs 2 (lane mod 4)
/// and the next.
using ChunkSums = float[kChunkProducts][4];

/// A lane's part of a tile's weights for a block, the small terms first. `swap` exchanges outputs 4 i and 4 i + 1
/// with 4 i + 2 and 4 i + 3.
struct LaneTerms {
  std::uint32_t word[kWeightTerms];

  __device__ static LaneTerms load(const std::uint32_t* tile, int lane, bool swap) {
    LaneTerms terms;
#pragma unroll
    for (int i = 0; i < kWeightTerms; ++i)
      terms.word[i] = tile[32 * (kWeightTerms - 1 - i) + (swap ? lane ^ 8 : lane)];
    return terms;
  }
};

/// The same of two packed tiles.
struct PackedTerms {
  std::uint32_t word[4];

  __device__ static PackedTerms load(const std::uint32_t* tile, int lane, bool swap) {
    const int at = swap ? lane ^ 8 : lane;
    return {tile[at], tile[32 + at], tile[64 + at], tile[96 + at]};
  }
};

/// Adds a tile's rows times a block's weights.
template <class T>
__device__ inline void add_weighted_rows(const ChunkColumns& columns,
                                         const LaneTerms& terms,
                                         ChunkSums& sums) {
#pragma unroll
  for (const std::uint32_t weights : terms.word) {
#pragma unroll
    for (int j = 0; j < kChunkProducts; ++j)
      sm80::mma_m16n8k8<T>(sums[j], columns.word[j], weights);
  }
}

/// The same of two tiles together.
template <class T>
__device__ inline void add_weighted_rows(const ChunkColumns (&columns)[2],
                                         const LaneTerms (&terms)[2],
                                         ChunkSums& sums) {
#pragma unroll
  for (int term = 0; term < kWeightTerms; ++term) {
#pragma unroll
    for (int j = 0; j < kChunkProducts; ++j) {
      const std::uint32_t(&low)[2] = columns[0].word[j];
      const std::uint32_t(&high)[2] = columns[1].word[j];
      sm80::mma_m16n8k16<T>(sums[j], {low[0], low[1], high[0], high[1]}, terms[0].word[term],
                            terms[1].word[term]);
    }
  }
}

/// The same of two packed tiles.
template <class T>
__device__ inline void add_weighted_rows(const PackedColumns& columns,
                                         const PackedTerms& terms,
                                         ChunkSums& sums) {
#pragma unroll
  for (int j = 0; j < kChunkProducts; ++j) {
    const std::uint32_t(&word)[4] = columns.word[j];
    sm80::mma_m16n8k16<T>(sums[j], {word[0], word[1], word[0], word[1]}, terms.word[0],
                          terms.word[1]);
  }
#pragma unroll
  for (int j = 0; j < kChunkProducts; ++j)
    sm80::mma_m16n8k16<T>(sums[j], columns.word[j], terms.word[2], terms.word[3]);
}

/// The eight columns of the first or the second of a lane's two outputs.
template <class T>
__device__ inline void take_columns(const ChunkSums& sums, int second, float (&x)[kColumns]) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i)
    x[i] = sums[i / 2][2 * (i % 2) + second] * (1.0f / kWeightScale<T>);
}

}  // namespace attn::attnres
