// Student's t against known answers and closed forms; laws of the sweep's statistics.
#include "harness/inference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace attn {
namespace {

constexpr double kTight = 1e-12;  // of a function computed in fp64

double rounded(double value) { return std::round(value * 1000) / 1000; }

TEST(StudentT, OneAndTwoDegreesHaveClosedForms) {
  for (const double t : {0.1, 0.5, 1.0, 3.0, 60.0}) {
    EXPECT_NEAR(two_sided_p(t, 1), 1 - 2 / std::numbers::pi * std::atan(t), kTight);
    EXPECT_NEAR(two_sided_p(t, 2), 1 - t / std::sqrt(2 + t * t), kTight);
  }
}

TEST(StudentT, TabulatedCriticalValues) {
  EXPECT_EQ(rounded(critical_t(0.01, 4)), 4.604);
  EXPECT_EQ(rounded(critical_t(0.01, 11)), 3.106);
  EXPECT_EQ(rounded(critical_t(0.01, 39)), 2.708);
  EXPECT_EQ(rounded(critical_t(0.05, 9)), 2.262);
}

TEST(StudentT, CriticalValueAndProbabilityAreInverse) {
  for (const double degrees : {1.0, 4.0, 39.0, 500.0}) {
    for (const double p : {0.5, 0.05, 0.01, 1e-6})
      EXPECT_NEAR(two_sided_p(critical_t(p, degrees), degrees) / p, 1, 1e-9);
  }
}

TEST(StudentT, TheSignOfTDoesNotMatter) {
  EXPECT_EQ(two_sided_p(-1.7, 6), two_sided_p(1.7, 6));
  EXPECT_EQ(two_sided_p(0, 6), 1);
}

TEST(MeanTest, TheIntervalExcludesZeroExactlyWhenPIsBelowItsLevel) {
  constexpr double kLevel = 0.01;
  const std::vector<double> shape = {-1, 0.3, 0.1, 1.2, -0.6};
  for (double shift = -3; shift < 3; shift += 0.05) {
    std::vector<double> values = shape;
    for (double& value : values) value += shift;
    const MeanTest test = test_mean(values, 1 - kLevel);
    EXPECT_EQ(std::abs(mean(values)) > test.half_width, test.p < kLevel) << shift;
  }
}

TEST(MeanTest, AKnownInterval) {
  EXPECT_DOUBLE_EQ(standard_error({1, 2, 3, 4, 5}), std::sqrt(0.5));
  EXPECT_EQ(rounded(test_mean({1, 2, 3, 4, 5}, 0.99).half_width), 3.256);  // 4.604 * sqrt(0.5)
}

TEST(MeanTest, OneValueProvesNothing) {
  EXPECT_TRUE(std::isinf(test_mean({5}, 0.99).half_width));
  EXPECT_EQ(test_mean({5}, 0.99).p, 1);
}

TEST(MeanTest, EqualValuesHaveNoWidth) {
  EXPECT_EQ(test_mean({2, 2, 2}, 0.99).p, 0);
  EXPECT_EQ(test_mean({0, 0, 0}, 0.99).p, 1);
}

TEST(BenjaminiHochberg, TheExampleOfTheirPaper) {
  // Fifteen p-values of the 1995 paper: the four smallest are rejected at 0.05.
  const std::vector<double> p = {0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
                                 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000};
  const std::vector<bool> rejected = benjamini_hochberg(p, 0.05);
  for (std::size_t i = 0; i < p.size(); ++i) EXPECT_EQ(rejected[i], i < 4) << i;
}

TEST(BenjaminiHochberg, ALateSmallEnoughPCarriesTheEarlierOnes) {
  EXPECT_EQ(benjamini_hochberg({0.04, 0.05}, 0.05), (std::vector<bool>{true, true}));
  EXPECT_EQ(benjamini_hochberg({0.04, 0.06}, 0.05), (std::vector<bool>{false, false}));
}

TEST(BenjaminiHochberg, OneTestIsAnOrdinaryTestAndNoneIsNone) {
  EXPECT_EQ(benjamini_hochberg({0.05}, 0.05), std::vector<bool>{true});
  EXPECT_EQ(benjamini_hochberg({0.051}, 0.05), std::vector<bool>{false});
  EXPECT_TRUE(benjamini_hochberg({}, 0.05).empty());
}

TEST(Bootstrap, HoldsTheMeanAndShrinksWithTheSample) {
  std::vector<double> few;
  std::vector<double> many;
  for (int i = 0; i < 400; ++i) (i < 16 ? few : many).push_back(std::sin(i * 1.7));
  const Interval wide = bootstrap_mean(few, 0.99);
  const Interval narrow = bootstrap_mean(many, 0.99);
  EXPECT_LT(wide.low, mean(few));
  EXPECT_GT(wide.high, mean(few));
  EXPECT_LT(narrow.high - narrow.low, (wide.high - wide.low) / 2);
}

TEST(Bootstrap, OneValueAndEqualValuesAreTheirOwnInterval) {
  for (const Interval& interval : {bootstrap_mean({3}, 0.99), bootstrap_mean({3, 3, 3}, 0.99)}) {
    EXPECT_EQ(interval.low, 3);
    EXPECT_EQ(interval.high, 3);
  }
}

}  // namespace
}  // namespace attn
