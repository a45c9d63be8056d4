// What a comparison reads off the machine: the sentinel's drift, the core's clock.
#include "harness/sentinel.h"

#include <gtest/gtest.h>

#include "harness/host_clock.h"

namespace attn {
namespace {

TEST(Sentinel, DriftIsTheWorstPair) {
  EXPECT_EQ(drift_of({}), 0);
  EXPECT_EQ(drift_of({100}), 0);
  EXPECT_EQ(drift_of({100, 100, 100}), 0);
  EXPECT_DOUBLE_EQ(drift_of({100, 125, 110}), 0.25);
  EXPECT_DOUBLE_EQ(drift_of({125, 110, 100}), 0.25) << "faster is a drift too";
}

TEST(Sentinel, TakesTime) {
  const Machine machine = find_machine(/*want_gpu=*/false);
  EXPECT_GT(sentinel_ns(machine), 1e4);
}

TEST(HostClock, IsThatOfACore) {
  const std::optional<double> mhz = host::clock_mhz();
  if (!mhz) GTEST_SKIP() << "the latency of this core's multiplication is not known";
  EXPECT_GT(*mhz, 50);  // of wall time: a busy machine takes some away
  EXPECT_LT(*mhz, 10000);
}

}  // namespace
}  // namespace attn
