// Numerics classes: where a backend rounds, and hence which error bound it is held to.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "harness/core/dtype.h"

namespace attn {

enum class NumericsClass : std::uint8_t {
  kFp64,         ///< everything in fp64; the output is rounded once
  kFp32,         ///< products exact, scores, weights and sums in fp32
  kHalfWeights,  ///< weights of 16-bit inputs are kept in fp16 until they are summed, in fp32
  kStored,       ///< scores and weights are stored in the input type between kernels, sums in fp32
};

/// What plugins call them.
inline constexpr std::array<std::string_view, 4> kNumericsNames = {"fp64", "fp32", "half_weights",
                                                                   "stored"};

/// The name that a row carries: which type the weights P pass through.
constexpr std::string_view class_name(NumericsClass numerics, DType dtype) {
  if (numerics == NumericsClass::kFp64) return "fp64";
  if (numerics == NumericsClass::kFp32 || dtype == DType::kF32) return "fp32_P";
  if (numerics == NumericsClass::kHalfWeights) return "fp16_P";
  return dtype == DType::kF16 ? "fp16_SP" : "bf16_SP";
}

}  // namespace attn
