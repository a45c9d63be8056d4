// Operands of gradients on tensor cores: products of tf32. 16-bit elements are exact in it; coefficients are
// two terms of 11 bits, together exact to 2^-21: the high one in rows 0 to 7 of a left operand and the low
// one in rows 8 to 15, or, where all rows are wanted, one in a product after the other.
//
// A product's eight columns are not neighbours: of a block of 32, product j has in its column g the block's
// column 4 g + j. A lane (g = lane / 4, t = lane mod 4) then finds its part of the right operands of all
// four products in eight bytes of a row, and its results, columns 2 t and 2 t + 1 of all four, are the
// block's columns 8 t to 8 t + 7: one access each for what they are added to and where they go.
#pragma once

#include <cstdint>

#include "impls/arch/sm80/mma.cuh"
#include "impls/attnres_phase1_bwd/bulk_layout.h"
#include "impls/common/vector_io.cuh"

namespace attn::attnres_phase1_bwd {
namespace bulk {

inline constexpr int kBlockProducts = 4;  // of eight columns
inline constexpr int kBlockBytes = 2 * kBlockColumns;

/// x as a sum of two tf32 terms. Rounding makes a zero of what is not a number, but the low term keeps it.
struct Terms {
  std::uint32_t high, low;

  __device__ static Terms of(float x) {
    constexpr std::uint32_t kKept = 0xffffe000;  // sign, exponent and 10 bits
    const std::uint32_t high = (__float_as_uint(x) + 0x1000u) & kKept;
    return {high, __float_as_uint(x - __uint_as_float(high)) & kKept};
  }
};

/// Which rows lanes t = 0 to 3 read as right operands: kUnits units of four rows, of which two at a time
/// have rows 2 t and 2 t + 1 of eight. Rows lie an odd number of 16 bytes apart: of every second one, 32
/// bytes of each meet no bank twice.
template <int kUnits>
struct RightRows {
  __device__ static constexpr bool paired(int unit) { return unit / 2 * 2 + 1 < kUnits; }
  __device__ static constexpr int row(int unit, int t) {
    return paired(unit) ? unit / 2 * 8 + 2 * t + unit % 2 : 4 * unit + t;
  }
  /// The other way round.
  __device__ static constexpr int unit(int row) {
    return paired(row / 4) ? row / 8 * 2 + row % 2 : row / 4;
  }
  __device__ static constexpr int lane(int row) { return paired(row / 4) ? row % 8 / 2 : row % 4; }
};

/// The byte of a row's block at which a lane's part of the right operands begins.
__device__ inline int right_byte(int lane) { return lane / 4 * 8; }

/// A lane's part of the right operands of a block's products with one row, as it lies there.
struct RightColumns {
  std::uint32_t words[2];

  __device__ static RightColumns at(const char* byte) {
    const uint2 pair = *reinterpret_cast<const uint2*>(byte);
    return {{pair.x, pair.y}};
  }
  /// Hides from the compiler what the words are.
  __device__ void make_opaque() { asm volatile("" : "+r"(words[0]), "+r"(words[1])); }
};

/// Of the word of products j and j + 1, j even, the element of product j + i, a constant, as tf32.
template <class T>
__device__ inline std::uint32_t element(std::uint32_t word, int i) {
  const float2 pair = unpack_pair<T>(word);
  return __float_as_uint(i == 0 ? pair.x : pair.y);
}

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
