// Conversions between fp32 and the 16-bit types: every bit pattern, and the rounding between them.
#include "harness/core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace attn {
namespace {

TEST(DType, EveryF16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float value = f16_to_float(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(value))));
    } else {
      ASSERT_EQ(float_to_f16(value), bits);
    }
  }
}

TEST(DType, EveryBf16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const float value = bf16_to_float(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value))));
    } else {
      ASSERT_EQ(float_to_bf16(value), bits);
    }
  }
}

TEST(DType, KnownF16Values) {
  EXPECT_EQ(float_to_f16(1.0f), 0x3c00);
  EXPECT_EQ(float_to_f16(-2.0f), 0xc000);
  EXPECT_EQ(float_to_f16(65504.0f), 0x7bff);
  EXPECT_EQ(float_to_f16(65519.9f), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);  // halfway to the next power of two: infinity
  EXPECT_EQ(float_to_f16(0x1p-24f), 0x0001);
  EXPECT_EQ(float_to_f16(0x1p-25f), 0x0000);  // a tie goes to even
  EXPECT_EQ(float_to_f16(0x1.8p-24f), 0x0002);
}

/// Between neighbours a and b, everything on a's side of the middle rounds to a.
TEST(DType, F16RoundsToNearestEven) {
  for (std::uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = f16_to_float(bits);
    const float high = f16_to_float(static_cast<std::uint16_t>(bits + 1));
    const float middle = (low + high) / 2;  // exact in fp32
    ASSERT_EQ(float_to_f16(std::nextafter(middle, low)), bits);
    ASSERT_EQ(float_to_f16(std::nextafter(middle, high)), bits + 1);
    ASSERT_EQ(float_to_f16(middle) % 2, 0);
  }
}

TEST(DType, Bf16RoundsToNearestEven) {
  EXPECT_EQ(float_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(float_to_bf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(float_to_bf16(1.0f + 0x1.8p-7f), 0x3f82);
  EXPECT_EQ(float_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(DType, RoundoffBoundsTheRounding) {
  for (const float value : {1.0009765f, 3.14159f, 1234.567f, 6.1e-5f}) {
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      std::uint16_t stored[2] = {};  // room for the widest type
      store_element(stored, dtype, 0, value);
      const double error = std::abs(double{load_element(stored, dtype, 0)} - value);
      EXPECT_LE(error, unit_roundoff(dtype) * value + half_subnormal(dtype));
    }
  }
}

}  // namespace
}  // namespace attn
