// Element types of tensors, and their exact conversion to and from fp32 and fp64.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "harness/core/host_device.h"

namespace attn {

enum class DType : std::uint8_t { kF16, kBF16, kF32 };
inline constexpr std::array<std::string_view, 3> kDTypeNames = {"f16", "bf16", "f32"};

constexpr std::size_t size_of(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

/// Relative rounding error of one round-to-nearest into `dtype`: half an ulp of 1.
constexpr double unit_roundoff(DType dtype) {
  constexpr std::array<double, 3> kRoundoff = {0x1p-11, 0x1p-8, 0x1p-24};
  return kRoundoff[static_cast<std::size_t>(dtype)];
}

/// Half an ulp of the smallest subnormal: the absolute part of one rounding into `dtype`.
constexpr double half_subnormal(DType dtype) {
  constexpr std::array<double, 3> kHalf = {0x1p-25, 0x1p-134, 0x1p-150};
  return kHalf[static_cast<std::size_t>(dtype)];
}

ATTN_HOST_DEVICE inline float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero and subnormals: mantissa counts units of 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

/// Rounds to nearest even; overflow gives infinity, NaN stays NaN.
inline std::uint16_t float_to_f16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint16_t sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // >= 65520
  if (magnitude < 0x38800000u) {  // below 2^-14: the FPU rounds in units of 2^-24
    const float units = std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24f);
    return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(units));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

ATTN_HOST_DEVICE inline float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Rounds to nearest even; NaN stays NaN.
inline std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// Element `index` of an array of `dtype`, exact.
ATTN_HOST_DEVICE inline float load_element(const void* data, DType dtype, std::int64_t index) {
  switch (dtype) {
    case DType::kF16:
      return f16_to_float(static_cast<const std::uint16_t*>(data)[index]);
    case DType::kBF16:
      return bf16_to_float(static_cast<const std::uint16_t*>(data)[index]);
    case DType::kF32:
      break;
  }
  return static_cast<const float*>(data)[index];
}

/// Stores `value` rounded once to `dtype`.
inline void store_element(void* data, DType dtype, std::int64_t index, float value) {
  switch (dtype) {
    case DType::kF16:
      static_cast<std::uint16_t*>(data)[index] = float_to_f16(value);
      return;
    case DType::kBF16:
      static_cast<std::uint16_t*>(data)[index] = float_to_bf16(value);
      return;
    case DType::kF32:
      static_cast<float*>(data)[index] = value;
      return;
  }
}

}  // namespace attn
