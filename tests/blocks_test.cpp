// Blocks: their order, and the drifts that fall out of them.
#include "harness/blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

namespace attn {
namespace {

/// A timer whose n-th sample takes time(n), B's `ratio` as long.
template <class Time>
TakeGroup timer(Time time, double ratio, std::string* order = nullptr) {
  return [=, n = 0](Arm arm) mutable {
    Group group{.mhz = arm == Arm::kA ? 2000.0 : 1900.0};
    if (order) *order += name_of(arm);
    for (int i = 0; i < kGroupSamples; ++i)
      group.ns.push_back(time(n++) * (arm == Arm::kB ? ratio : 1));
    return group;
  };
}

double steady(int) { return 1000; }

TEST(Blocks, TheOrderIsAbbaFromEitherArm) {
  for (const Arm first : {Arm::kA, Arm::kB}) {
    std::string order;
    const Block block = measure_block(timer(steady, 1, &order), first);
    EXPECT_EQ(order, first == Arm::kA ? "ABBA" : "BAAB");
    std::size_t samples = 0;
    for (const Group& group : block.groups) samples += group.ns.size();
    EXPECT_EQ(samples, 20u);
  }
}

TEST(Blocks, TheRatioIsBOverAFromEitherArm) {
  for (const Arm first : {Arm::kA, Arm::kB})
    EXPECT_DOUBLE_EQ(log_ratio(measure_block(timer(steady, 1.25), first)), std::log(1.25));
}

TEST(Blocks, AGeometricDriftFallsOut) {
  const auto drifting = [](int n) { return 1000 * std::pow(1.01, n); };  // 21 % over a block
  for (const Arm first : {Arm::kA, Arm::kB})
    EXPECT_NEAR(log_ratio(measure_block(timer(drifting, 1), first)), 0, 1e-12);
}

TEST(Blocks, WhatDependsOnThePlaceFallsOutOfAPair) {
  const auto place = [](int n) { return 1000 * (1 + 0.02 * std::sin(7.0 * (n % 20) * (n % 20))); };
  const Block one = measure_block(timer(place, 1.25), Arm::kA);
  const Block two = measure_block(timer(place, 1.25), Arm::kB);
  EXPECT_GT(std::abs(log_ratio(one) - std::log(1.25)), 0.001);
  const std::vector<double> means = pair_means({one, two, one}, log_ratio);
  ASSERT_EQ(means.size(), 2u);
  EXPECT_NEAR(means[0], std::log(1.25), 1e-12);
  EXPECT_EQ(means[1], log_ratio(one)) << "without a partner";
}

TEST(Blocks, FewOutliersDoNotMatter) {
  const auto rarely_slow = [](int n) { return n % 7 == 3 ? 9000.0 : 1000.0; };
  EXPECT_EQ(log_ratio(measure_block(timer(rarely_slow, 1), Arm::kA)), 0);
}

TEST(Blocks, ClocksAreComparedWhereTheyAreKnown) {
  Block block = measure_block(timer(steady, 1), Arm::kB);
  EXPECT_NEAR(log_clock_ratio(block).value_or(0), std::log(0.95), 1e-12);
  EXPECT_EQ(clocks_of({{block}}, Arm::kB), (std::vector<double>{1900, 1900}));
  block.groups[2].mhz.reset();
  EXPECT_FALSE(log_clock_ratio(block).has_value());
  EXPECT_TRUE(clocks_of({{block}}, Arm::kA).empty());
}

TEST(Blocks, EverySampleOfAnArmIsKept) {
  const auto counting = [](int n) { return 1.0 + n; };
  const Block block = measure_block(timer(counting, 1), Arm::kA);
  const std::vector<ProcessBlocks> twice = {{block}, {block}};
  EXPECT_EQ(samples_of(twice, Arm::kA).size(), 20u);
  EXPECT_EQ(samples_of(twice, Arm::kB).front(), 6);  // the sixth sample is B's first
}

TEST(Blocks, OneThatTheHardwareSlowedDownIsMeasuredAgain) {
  int blocks = 0;
  const auto measure = [&](int slow) {
    blocks = 0;
    std::set<std::string> flags;
    int groups = 0;
    const Block block = measure_steady_block(
        [&](Arm) { return Group{.ns = std::vector<double>(5, 100.0 + ++groups)}; }, Arm::kA,
        [&] { return blocks++ < slow; }, flags);
    EXPECT_EQ(flags.count("hw_slowdown"), slow < 3 ? 0u : 1u);
    return block.groups[3].ns[0];
  };
  EXPECT_EQ(measure(0), 104);
  EXPECT_EQ(measure(2), 112) << "the third block counts";
  EXPECT_EQ(measure(9), 112) << "no more than three are tried";
}

}  // namespace
}  // namespace attn
