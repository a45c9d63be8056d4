// The end of a warm-up, on clocks whose course is known.
#include "harness/warm_up.h"

#include <gtest/gtest.h>

#include <cmath>

namespace attn {
namespace {

/// Milliseconds that a warm-up of `step_s` long steps takes on a clock that shows `mhz(t)`; negative
/// when the clock is said not to have settled.
double ms_of(const std::function<std::optional<double>(double)>& mhz, double step_s = 0.002) {
  double now = 0;
  const bool steady = warm_up(
      [&] {
        now += step_s;
        return mhz(now);
      },
      [&] { return now; });
  return 1000 * (steady ? now : -now);
}

TEST(WarmUp, ASteadyClockTakesHalfASecond) {
  EXPECT_NEAR(ms_of([](double) { return 1980; }), 500, 10);
}

TEST(WarmUp, AClockThatWakesUpIsWaitedFor) {
  const auto rising = [](double t) { return t < 1.2 ? 345 + (1980 - 345) * t / 1.2 : 1980; };
  EXPECT_NEAR(ms_of(rising), 1700, 110);
  const auto falls = [](double t) { return t < 0.7 ? 1980.0 : 1755.0; };  // the power limit
  EXPECT_NEAR(ms_of([&](double t) { return t < 0.3 ? 1000 : falls(t); }), 1200, 110);
}

TEST(WarmUp, NoiseOfSingleReadingsDoesNotCount) {
  int reading = 0;
  EXPECT_NEAR(ms_of([&](double) { return 1980 * (++reading % 2 ? 1.02 : 0.98); }), 500, 10);
}

TEST(WarmUp, AClockThatNeverSettlesEndsIt) {
  const auto swings = [](double t) { return 1900 * (1 + 0.02 * std::sin(10 * t)); };
  EXPECT_NEAR(ms_of(swings), -3000, 10);
  const auto climbs =
      [](double percent) {  // a second; 0.4 s lie between the first bin and the last
        return [=](double t) { return 1900 * (1 + percent / 100 * t); };
      };
  EXPECT_NEAR(ms_of(climbs(1.4)), -3000, 10);
  EXPECT_NEAR(ms_of(climbs(1.0)), 500, 10);
}

TEST(WarmUp, ItMayBeGivenLessTime) {
  double now = 0;
  const WarmStep swings = [&] {
    now += 0.002;
    return 1900 * (1 + 0.02 * std::sin(10 * now));
  };
  EXPECT_FALSE(warm_up(
      swings, [&] { return now; }, 0.6));
  EXPECT_NEAR(1000 * now, 600, 10);
}

TEST(WarmUp, LongStepsAreComparedOneByOne) {
  EXPECT_NEAR(ms_of([](double) { return 1980; }, 0.4), 1200, 10);
  EXPECT_NEAR(ms_of([](double t) { return 1500 + 100 * t; }, 0.4), -3200, 10);
}

TEST(WarmUp, WithoutAClockItIsShort) {
  EXPECT_NEAR(ms_of([](double) { return std::nullopt; }), 50, 3);
}

}  // namespace
}  // namespace attn
