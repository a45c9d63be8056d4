// Order statistics: known answers, and laws that hold for any sample.
#include "harness/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

namespace attn {
namespace {

TEST(Statistics, KnownQuantiles) {
  const Summary s = summarise({5, 1, 4, 2, 3});
  EXPECT_EQ(s.n, 5u);
  EXPECT_EQ(s.min, 1);
  EXPECT_EQ(s.p25, 2);
  EXPECT_EQ(s.median, 3);
  EXPECT_EQ(s.p75, 4);
  EXPECT_DOUBLE_EQ(s.p5, 1.2);
  EXPECT_DOUBLE_EQ(s.p95, 4.8);
  EXPECT_EQ(s.mad, 1);
}

TEST(Statistics, EvenCountInterpolates) { EXPECT_EQ(summarise({1, 2, 3, 10}).median, 2.5); }

TEST(Statistics, OneSampleIsEveryQuantile) {
  const Summary s = summarise({7});
  EXPECT_EQ(s.min, 7);
  EXPECT_EQ(s.p95, 7);
  EXPECT_EQ(s.mad, 0);
}

TEST(Statistics, KeepsEverySampleInOrder) {
  const std::vector<double> samples = {3, 1e9, 2};  // an outlier is a sample
  EXPECT_EQ(summarise(samples).samples, samples);
}

TEST(Statistics, OrderDoesNotMatter) {
  std::vector<double> samples = {9, 4, 7, 1, 8, 2};
  const double median = summarise(samples).median;
  std::reverse(samples.begin(), samples.end());
  EXPECT_EQ(summarise(samples).median, median);
}

TEST(Statistics, NothingIsAnError) { EXPECT_THROW(summarise({}), std::invalid_argument); }

}  // namespace
}  // namespace attn
