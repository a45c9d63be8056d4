// The decision rule: laws of intervals, thresholds, signs and clocks.
#include "harness/decision.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/fake_timer.h"

namespace attn {
namespace {

Estimate made_up(double log_ratio, double half_width, bool one_sign = true) {
  return {.log_ratio = log_ratio, .half_width = half_width, .one_sign = one_sign};
}

TEST(Judge, ACallNeedsSizeIntervalAndSigns) {
  EXPECT_EQ(judge(made_up(0.02, 0.005), 0.01), Verdict::kSlower);
  EXPECT_EQ(judge(made_up(-0.02, 0.005), 0.01), Verdict::kFaster);
  EXPECT_EQ(judge(made_up(0.02, 0.021), 0.01), Verdict::kUndecided) << "the interval holds 0";
  EXPECT_EQ(judge(made_up(0.02, 0.005, false), 0.01), Verdict::kUndecided) << "signs differ";
  EXPECT_EQ(judge(made_up(0.009, 0.005), 0.01), Verdict::kUndecided) << "below delta";
}

TEST(Judge, SameNeedsTheWholeIntervalInsideDelta) {
  EXPECT_EQ(judge(made_up(0.002, 0.003), 0.01), Verdict::kSame);
  EXPECT_EQ(judge(made_up(0.002, 0.009), 0.01), Verdict::kUndecided);
  EXPECT_EQ(judge(made_up(0.002, 0.001), 0.01), Verdict::kSame) << "significant, but nothing";
}

TEST(Judge, DeltaIsItselfACall) {
  EXPECT_EQ(judge(made_up(std::log(1.02), 0.001), 0.02), Verdict::kSlower);
  EXPECT_EQ(judge(made_up(-std::log(1.02), 0.001), 0.02), Verdict::kFaster);
}

TEST(Judge, AnUnknownWidthDecidesNothing) {
  EXPECT_EQ(judge(made_up(1, INFINITY), 0.01), Verdict::kUndecided);
  EXPECT_EQ(judge(made_up(NAN, NAN), 0.01), Verdict::kUndecided);
}

TEST(Estimates, SwappingTheArmsMirrorsEverything) {
  const Estimate there = estimate({{0.01, 0.02, 0.015}, {0.011, 0.018}});
  const Estimate back = estimate({{-0.01, -0.02, -0.015}, {-0.011, -0.018}});
  EXPECT_EQ(there.log_ratio, -back.log_ratio);
  EXPECT_EQ(there.half_width, back.half_width);
  EXPECT_EQ(there.p, back.p);
}

TEST(Estimates, TheRatioIsTheMeanOfProcessMeans) {
  EXPECT_DOUBLE_EQ(estimate({{1, 3}, {5}}).log_ratio, 3.5);
  EXPECT_EQ(estimate({{1, 3}, {5}}).process_means, (std::vector<double>{2, 5}));
}

TEST(Estimates, TheLargerIntervalCounts) {
  // Five processes that agree within themselves and not among each other: the blocks alone would
  // claim five times the certainty.
  std::vector<std::vector<double>> spread;
  for (const double process : {-0.02, -0.01, 0.0, 0.01, 0.02})
    spread.push_back(std::vector<double>(25, process));
  std::vector<std::vector<double>> pooled(1);
  for (const auto& process : spread)
    pooled[0].insert(pooled[0].end(), process.begin(), process.end());
  EXPECT_GT(estimate(spread).half_width, 5 * estimate(pooled).half_width);
  // Processes that agree by luck, of blocks that do not.
  const std::vector<std::vector<double>> lucky = {{-1, 1}, {1, -1}, {2, -2}};
  EXPECT_GT(estimate(lucky).half_width, 1);
}

TEST(Estimates, SignsAgreeOnlyWhenAllProcessesDo) {
  EXPECT_TRUE(estimate({{1}, {2}, {3}}).one_sign);
  EXPECT_TRUE(estimate({{-1}, {-2}}).one_sign);
  EXPECT_FALSE(estimate({{1}, {2}, {-1e-9}}).one_sign);
  EXPECT_FALSE(estimate({{1}, {0}}).one_sign);
}

/// The level's minimum of blocks from a fake machine.
std::vector<ProcessBlocks> measured(const Noise& noise, double ratio, const Level& level) {
  std::vector<ProcessBlocks> processes;
  for (std::size_t p = 0; p < level.processes; ++p) {
    FakeTimer timer(noise, ratio, p, static_cast<int>(level.blocks) * 20);
    const Arm first = p % 2 == 0 ? Arm::kA : Arm::kB;
    processes.emplace_back();
    for (std::size_t b = 0; b < level.blocks; ++b)
      processes.back().push_back(measure_block([&](Arm arm) { return timer.group(arm); },
                                               b % 2 == 0 ? first : other(first)));
  }
  return processes;
}

TEST(Decide, BelowTheMinimumNothingIsDecided) {
  std::vector<ProcessBlocks> processes = measured({.white = 0.001}, 1.05, kClaim);
  EXPECT_EQ(decide(processes, kClaim, 0.005).verdict, Verdict::kSlower);
  processes.back().pop_back();
  const Decision short_of_one = decide(processes, kClaim, 0.005);
  EXPECT_EQ(short_of_one.verdict, Verdict::kUndecided);
  EXPECT_EQ(short_of_one.reason.value_or(""), "the time budget ended before 5 x 8 blocks");
  EXPECT_EQ(decide({}, kClaim, 0.005).verdict, Verdict::kUndecided);
}

TEST(Decide, EqualClocksNeedNoCycles) {
  const Decision decision = decide(measured({.clock_share = 0.009}, 1.02, kClaim), kClaim, 0.005);
  EXPECT_FALSE(decision.cycles.has_value());
  EXPECT_EQ(decision.verdict, Verdict::kSlower);
}

TEST(Decide, ADifferenceThatTheClockMadeIsNoDifference) {
  // B takes 3 % longer at a clock 3 % lower: the same cycles.
  const Decision decision =
      decide(measured({.white = 0.001, .clock_share = 0.03}, 1 / 0.97, kClaim), kClaim, 0.005);
  ASSERT_TRUE(decision.cycles.has_value());
  EXPECT_EQ(judge(decision.time, 0.005), Verdict::kSlower);
  EXPECT_EQ(judge(*decision.cycles, 0.005), Verdict::kSame);
  EXPECT_EQ(decision.verdict, Verdict::kUndecided);
  EXPECT_NE(decision.reason.value_or("").find("times and cycles disagree"), std::string::npos);
}

TEST(Decide, TimesAndCyclesThatAgreeDecide) {
  const Decision decision =
      decide(measured({.white = 0.001, .clock_share = 0.03}, 1.5, kClaim), kClaim, 0.005);
  ASSERT_TRUE(decision.cycles.has_value());
  EXPECT_EQ(decision.verdict, Verdict::kSlower);
}

}  // namespace
}  // namespace attn
