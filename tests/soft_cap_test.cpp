// The soft cap's polynomial: against tanh, at the edge of what it takes, and what it must not take.
#include "impls/colreduce/soft_cap.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace attn::colreduce {
namespace {

std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }

/// kTimes x, as a kernel has it of a dot product s.
float times_x(const SoftCap& cap, float s) { return s * cap.scale; }

TEST(SoftCap, IsTanhWithinItsError) {
  for (const auto& [softcap, scale] : {std::pair{50.0, 0.0625}, {2.0, 1.0}, {1e-3, -0.5}}) {
    const double log2e = 1 / std::log(2.0);
    const SoftCap cap = SoftCap::of(softcap * log2e, scale / softcap);
    int small = 0;
    for (int i = -4000; i <= 4000; ++i) {
      const auto s = static_cast<float>(i / 4000.0 * 0.6 * softcap / scale);
      const float x4 = times_x(cap, s);
      const double exact = softcap * log2e * std::tanh(scale / softcap * s);
      EXPECT_NEAR(cap.any(x4), exact, 3e-7 * std::fabs(exact)) << s;
      if (!SoftCap::are_small(bits_of(x4))) continue;
      ++small;
      EXPECT_NEAR(cap.small(x4), exact, 3e-7 * std::fabs(exact)) << s;
    }
    EXPECT_NEAR(small, 8000 * 0.5 / 0.6, 4) << "it takes what is below 1/2";
  }
}

TEST(SoftCap, LeavesWhatIsLargeOrNotANumberToTanh) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(SoftCap::are_small(bits_of(1.9999999f) | bits_of(-1.5f) | bits_of(-0.0f)));
  EXPECT_TRUE(SoftCap::are_small(bits_of(1e-30f) | bits_of(1.5f)));
  for (const float x4 : {2.0f, -2.0f, 3e38f, kInf, -kInf, std::nanf("")}) {
    EXPECT_FALSE(SoftCap::are_small(bits_of(x4)));
    EXPECT_FALSE(SoftCap::are_small(bits_of(x4) | bits_of(0.25f)));
  }
  const SoftCap cap = SoftCap::of(3, 1);
  EXPECT_EQ(cap.any(kInf), 3);
  EXPECT_EQ(cap.any(-kInf), -3);
  EXPECT_TRUE(std::isnan(cap.any(std::nanf(""))));
}

TEST(SoftCap, NoneIsNone) {
  EXPECT_FALSE(SoftCap{}.exists());
  EXPECT_TRUE(SoftCap::of(1, 1).exists());
}

}  // namespace
}  // namespace attn::colreduce
