// Vectors of the compiler (GNU vector extension) with the few functions that attention on a CPU
// needs. The width is a template parameter: a caller instantiates one per instruction set and picks
// at run time, so that one binary runs everywhere. All functions are forced inline, because only
// the caller carries the target attribute that gives them their instructions.
#pragma once

#include <cstdint>
#include <cstring>

#include "harness/core/dtype.h"

#define ATTN_ALWAYS_INLINE inline __attribute__((always_inline))

namespace attn::simd {

template <int kLanes>
struct Vec {
  typedef float Float __attribute__((vector_size(kLanes * 4)));
  typedef std::int32_t Int __attribute__((vector_size(kLanes * 4)));
  typedef std::uint16_t Half __attribute__((vector_size(kLanes * 2)));

  static ATTN_ALWAYS_INLINE void load(Float& to, const float* from) {
    std::memcpy(&to, from, sizeof to);
  }
  static ATTN_ALWAYS_INLINE void store(float* to, const Float& from) {
    std::memcpy(to, &from, sizeof from);
  }
  /// 0, 1, 2, ...
  static ATTN_ALWAYS_INLINE void lane_index(Int& to) {
    constexpr std::int32_t kIndex[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    static_assert(kLanes <= 16, "the list of lanes must be as long as the vector");
    std::memcpy(&to, kIndex, sizeof to);
  }
};

/// x = 2^x for x <= 0 and NaN, within 2 ulp; 2^0 is exactly 1, everything below 2^-126 is 0.
///
/// x = n + f with integer n and |f| <= 1/2 (exact), 2^f by a polynomial of degree 6 whose relative
/// error is 2.0e-9 (minimax under p(0) = 1, Lawson's iteration), 2^n by its exponent bits.
template <int kLanes>
ATTN_ALWAYS_INLINE void exp2_nonpositive(typename Vec<kLanes>::Float& x) {
  using Float = typename Vec<kLanes>::Float;
  using Int = typename Vec<kLanes>::Int;
  // 1.5 * 2^23 + 127: adding it rounds to an integer, and the low bits of the sum are then the
  // biased exponent n + 127.
  constexpr float kRounder = 12583039.0f;
  const Float rounded = x + kRounder;
  const Float f = x - (rounded - kRounder);
  Float p = f * 1.5353362034606355e-4f + 1.3398874476512508e-3f;
  p = p * f + 9.618437357702209e-3f;
  p = p * f + 5.550332470983972e-2f;
  p = p * f + 2.4022647913625417e-1f;
  p = p * f + 6.931472028551223e-1f;
  p = p * f + 1.0f;
  const Int exponent = __builtin_bit_cast(Int, rounded) << 23;
  // A product, not an addition of exponents: NaN must stay NaN.
  p *= __builtin_bit_cast(Float, exponent);
  x = x < -126.0f ? Float{} : p;
}

/// x = tanh(x) within 3 ulp, NaN and infinities included.
///
/// (1 - t) / (1 + t) with t = 2^(-2 |x| log2 e); below 0.625, where 1 - t cancels, the polynomial of
/// Moshier's Cephes library (tanhf).
template <int kLanes>
ATTN_ALWAYS_INLINE void tanh(typename Vec<kLanes>::Float& x) {
  using Float = typename Vec<kLanes>::Float;
  using Int = typename Vec<kLanes>::Int;
  const Int bits = __builtin_bit_cast(Int, x);
  const Int magnitude = bits & 0x7fffffff;
  const Float a = __builtin_bit_cast(Float, magnitude);
  Float t = a * -2.8853900817779268f;
  exp2_nonpositive<kLanes>(t);
  const Float large = (1.0f - t) / (1.0f + t);
  const Float z = a * a;
  Float p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const Float small = p * z * a + a;
  const Float result = a < 0.625f ? small : large;
  const Int signed_bits = __builtin_bit_cast(Int, result) | (bits & ~0x7fffffff);
  x = __builtin_bit_cast(Float, signed_bits);
}

/// The sum of the lanes, pairwise.
template <int kLanes>
ATTN_ALWAYS_INLINE float sum_lanes(const typename Vec<kLanes>::Float& x) {
  if constexpr (kLanes == 4) {
    float lane[4];
    std::memcpy(lane, &x, sizeof lane);
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
  } else {
    typename Vec<kLanes / 2>::Float half[2];
    std::memcpy(half, &x, sizeof half);
    half[0] += half[1];
    return sum_lanes<kLanes / 2>(half[0]);
  }
}

/// f16 to fp32, exact: subnormals, infinities and NaN included.
template <int kLanes>
ATTN_ALWAYS_INLINE void widen_f16(typename Vec<kLanes>::Float& to,
                                  const typename Vec<kLanes>::Half& from) {
  using Float = typename Vec<kLanes>::Float;
  using Int = typename Vec<kLanes>::Int;
  const Int bits = __builtin_convertvector(from, Int);
  const Int magnitude = (bits & 0x7fff) << 13;
  // Read as fp32, the exponent is 112 too small; for f16 subnormals the product normalises.
  const Float finite = __builtin_bit_cast(Float, magnitude) * 0x1p112f;
  const Int special = magnitude | 0x7f800000;  // infinities and NaN keep their mantissa
  const Int value = magnitude >= 0x0f800000 ? special : __builtin_bit_cast(Int, finite);
  const Int result = value | ((bits & 0x8000) << 16);
  to = __builtin_bit_cast(Float, result);
}

/// bf16 to fp32, exact.
template <int kLanes>
ATTN_ALWAYS_INLINE void widen_bf16(typename Vec<kLanes>::Float& to,
                                   const typename Vec<kLanes>::Half& from) {
  using Int = typename Vec<kLanes>::Int;
  const Int bits = __builtin_convertvector(from, Int) << 16;
  to = __builtin_bit_cast(typename Vec<kLanes>::Float, bits);
}

/// to[i] = from[i] as fp32 for i in [0, count).
template <int kLanes>
ATTN_ALWAYS_INLINE void widen(float* to, const void* from, DType dtype, int count) {
  if (dtype == DType::kF32) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const auto* halves = static_cast<const std::uint16_t*>(from);
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    typename Vec<kLanes>::Half bits;
    typename Vec<kLanes>::Float wide;
    std::memcpy(&bits, halves + i, sizeof bits);
    if (dtype == DType::kF16) {
      widen_f16<kLanes>(wide, bits);
    } else {
      widen_bf16<kLanes>(wide, bits);
    }
    Vec<kLanes>::store(to + i, wide);
  }
  for (; i < count; ++i) to[i] = load_element(from, dtype, i);
}

}  // namespace attn::simd
