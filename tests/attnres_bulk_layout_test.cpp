// How bulk_sm90 lays phase 1 out: what is chosen fits, teams have stages, and the published shapes get the
// layout that they are meant for.
#include <gtest/gtest.h>

#include "impls/attnres_phase1/bulk_sm90.h"
#include "tests/known_devices.h"

namespace attn::attnres_phase1 {
namespace {

AttnResPhase1::Problem problem(std::int64_t N, std::int64_t S, std::int64_t T, std::int64_t D) {
  AttnResPhase1::Problem p;
  p.N = N, p.S = S, p.T = T, p.D = D;
  return p;
}

std::string layout_of(const AttnResPhase1::Problem& p) { return describe(bulk_config(p, kH200)); }

TEST(AttnResBulkLayout, WhatIsChosenFits) {
  for (const std::int64_t D : {8, 40, 896, 1264, 2048, 2304, 4096, 7168}) {
    for (const std::int64_t N : {1, 2, 4, 7, 8, 9, 16, 17, 64}) {
      for (const std::int64_t S : {1, 6, 8, 12, 17}) {
        const AttnResPhase1::Problem p = problem(N, S, 8192, D);
        if (!bulk_supports(p, kH200)) continue;
        const attnres::BulkConfig config = bulk_config(p, kH200);
        const std::string what = "N " + std::to_string(N) + " S " + std::to_string(S) + " D " +
                                 std::to_string(D) + ": " + attnres::describe(config);
        EXPECT_LE(config.shared_bytes, kH200.shared_bytes_per_block) << what;
        EXPECT_GE(config.shared_bytes, static_cast<std::size_t>(config.rest_offset())) << what;
        EXPECT_GE(config.stages, 1) << what;
        EXPECT_LE(config.stages, attnres::kMostStages) << what;
        EXPECT_EQ(config.group_rows, config.tokens * N) << what;
        EXPECT_TRUE(config.tokens == 1 || config.group_rows <= 8) << what;
        EXPECT_EQ(config.teams, bulk_shape(config, p).teams()) << what;
        EXPECT_GE(config.padded * config.ranks, D) << what;
        int columns = 0;
        for (int rank = 0; rank < config.ranks; ++rank) {
          const attnres::ColumnRange range =
              attnres::columns_of(static_cast<int>(D / 8), config.ranks, rank);
          EXPECT_EQ(range.first, columns) << what;
          EXPECT_LE(range.count * 8, config.padded) << what;
          columns += range.count;
        }
        EXPECT_EQ(columns * 8, D) << what;
      }
    }
  }
}

TEST(AttnResBulkLayout, PublishedShapes) {
  EXPECT_EQ(layout_of(problem(4, 8, 65536, 2048)), "3 teams, 5 stages of 2 tokens");
  EXPECT_EQ(layout_of(problem(8, 8, 65536, 2048)), "3 teams, 5 stages of 1 token");
  EXPECT_EQ(layout_of(problem(9, 6, 32768, 2304)), "3 teams, 4 stages of 1 token");
  EXPECT_EQ(layout_of(problem(8, 12, 8192, 7168)),
            "4 CTAs a cluster, 4 teams, 5 stages of 1 token");
}

TEST(AttnResBulkLayout, WarpsMixPairsWhereNoneGetsMoreByIt) {
  const auto pairs = [](const AttnResPhase1::Problem& p) {
    return bulk_shape(bulk_config(p, kH200), p).chunks == 2;
  };
  EXPECT_TRUE(pairs(problem(4, 8, 65536, 2048)));
  EXPECT_TRUE(pairs(problem(8, 8, 8192, 4096))) << "32 chunks a rank";
  EXPECT_FALSE(pairs(problem(8, 12, 8192, 7168)))
      << "28 chunks a rank: seven a warp, or four pairs";
  EXPECT_FALSE(pairs(problem(4, 8, 65536, 1168))) << "19 chunks: five a warp, or three pairs";
  EXPECT_FALSE(pairs(problem(4, 4, 65536, 2048))) << "half of a block's rows";
  EXPECT_FALSE(pairs(problem(1, 8, 65536, 2048))) << "one source is not mixed on tensor cores";
}

TEST(AttnResBulkLayout, GroupsAreDrawnWhereMemoryIsTheLimit) {
  const auto draws = [](const AttnResPhase1::Problem& p) {
    return bulk_draws(bulk_config(p, kH200), p, kH200);
  };
  EXPECT_TRUE(draws(problem(4, 8, 65536, 2048)));
  EXPECT_TRUE(draws(problem(8, 8, 65536, 2048)));
  EXPECT_TRUE(draws(problem(4, 8, 32 * 2 * 132, 512))) << "32 groups of two tokens an SM";
  EXPECT_FALSE(draws(problem(4, 8, 32 * 2 * 132 - 1, 512))) << "fewer do not pay for the counter";
  EXPECT_FALSE(draws(problem(8, 4, 32768, 896))) << "a group's own time is the limit";
  EXPECT_FALSE(draws(problem(8, 12, 8192, 7168))) << "ranks would have to tell each other";
  EXPECT_FALSE(draws(problem(4, 8, 0, 2048)));
}

TEST(AttnResBulkLayout, FewTokensAreSplitOverTheRanksThatThereAreSmsFor) {
  EXPECT_EQ(bulk_config(problem(9, 8, 1, 7168), kH200).ranks, 8);
  EXPECT_EQ(bulk_config(problem(4, 8, 1, 256), kH200).ranks, 2) << "128 columns a rank at least";
}

}  // namespace
}  // namespace attn::attnres_phase1
