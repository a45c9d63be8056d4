// The function behind the examples: known answers, and one sentence for each misuse.
#include "examples/column_scores.h"

#include <gtest/gtest.h>

#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace attn {
namespace {

using Problem = ColReduce::Problem;

/// Two heads of one query each; the first key weighs 3 times as much as the second for head 0, and
/// as much for head 1.
const Problem kPair{.H = 2, .M = 1, .N = 2, .D = 8, .dtype = DType::kF32, .scale = 1};
const std::vector<float> kQueries = {1.0986123F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
const std::vector<float> kKeys = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                  1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

TEST(ColumnScores, AreTheWeightsOfTheKeys) {
  const ColumnScores each = column_scores(kPair, kQueries, kKeys);
  EXPECT_TRUE(each.backend.starts_with("auto (")) << each.backend;
  ASSERT_EQ(each.values.size(), 4U);
  const float expected[] = {0.75F, 0.25F, 0.5F, 0.5F};
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(each.values[i], expected[i], 0x1p-20);

  Problem mean = kPair;
  mean.heads = Heads::kMean;
  const ColumnScores both = column_scores(mean, kQueries, kKeys, "cpu_fused");
  ASSERT_EQ(both.values.size(), 2U);
  EXPECT_TRUE(both.backend.starts_with("cpu_fused (")) << both.backend;
  EXPECT_NEAR(both.values[0], 0.625F, 0x1p-20);
  EXPECT_NEAR(both.values[1], 0.375F, 0x1p-20);
}

/// The message with which a call fails.
std::string complaint(const Problem& p, std::span<const float> q, const char* backend = "auto") {
  try {
    column_scores(p, q, kKeys, backend);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(ColumnScores, SayWhatIsWrong) {
  EXPECT_EQ(complaint(kPair, kQueries, "fastest"), "no backend is called fastest");
  EXPECT_EQ(complaint(kPair, std::span(kQueries).first(15)), "q must have 16 numbers, not 15");
  Problem p = kPair;
  p.H_kv = 3;
  EXPECT_EQ(complaint(p, kQueries), "H must be a multiple of H_kv, not 2 and 3");
  p = kPair;
  p.lse = Lse::kIn;
  EXPECT_EQ(complaint(p, kQueries), "column_scores takes dense q and k, and no lse");
}

TEST(Largest, OfEqualScoresTheFirst) {
  const float scores[] = {1, 3, 2, 3, 2, 0};
  EXPECT_EQ(largest(scores, 3), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(largest(scores, 9).size(), 6U);
}

}  // namespace
}  // namespace attn
