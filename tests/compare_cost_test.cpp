// What the minimum of a comparison takes, from comparisons whose parts are known.
#include "harness/compare_cost.h"

#include <gtest/gtest.h>

namespace attn {
namespace {

/// `processes` processes with the claim's blocks, of samples that all take `ms`.
std::vector<ProcessBlocks> gathered(std::size_t processes, double ms) {
  Block block;
  for (Group& group : block.groups) group.ns.assign(kGroupSamples, 1e6 * ms);
  return {processes, ProcessBlocks(kClaim.blocks, block)};
}

TEST(CompareCost, NothingSeenIsNothingPredicted) { EXPECT_EQ(CompareCost(kClaim).predict(1e9), 0); }

TEST(CompareCost, ProcessesCostTheSameAndSamplesGrowWithTheWork) {
  CompareCost cost(kClaim);
  // 5 processes of 1 s and 8 x 20 samples of 1 ms each.
  cost.observe(1e9, gathered(5, 1), 5 * (1 + 0.16));
  EXPECT_FLOAT_EQ(cost.predict(1e9), 5.8);
  EXPECT_FLOAT_EQ(cost.predict(1e10), 5 * (1 + 1.6));
  EXPECT_GE(cost.predict(0), 5);
  EXPECT_LT(cost.predict(0), 5.1);
}

TEST(CompareCost, MoreProcessesThanTheMinimumAreNoPartOfIt) {
  CompareCost cost(kClaim);
  cost.observe(1e9, gathered(10, 1), 10 * (1 + 0.16));
  EXPECT_FLOAT_EQ(cost.predict(1e9), 5.8);
}

TEST(CompareCost, TheNearestCellTellsTheRateAndTheSlowestStartTheRest) {
  CompareCost cost(kClaim);
  cost.observe(1e9, gathered(5, 1), 5 * (3 + 0.16));
  cost.observe(1e12, gathered(5, 100), 5 * (1 + 16.0));
  EXPECT_FLOAT_EQ(cost.predict(2e9), 5 * (3 + 0.32));
  EXPECT_FLOAT_EQ(cost.predict(5e11), 5 * (3 + 8.0));
}

TEST(CompareCost, ACellWithoutASampleTellsNothing) {
  CompareCost cost(kClaim);
  cost.observe(1e9, {}, 60);
  EXPECT_EQ(cost.predict(1e9), 0);
}

}  // namespace
}  // namespace attn
