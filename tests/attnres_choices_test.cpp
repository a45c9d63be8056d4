// How fused_simt lays a token out on an SM, and the mix over registers and clusters: what is chosen fits, and
// the published shapes get the layout that they are meant for.
#include <gtest/gtest.h>

#include <string>

#include "impls/attnres/mix_layout.h"
#include "impls/attnres/read_config.h"

namespace attn::attnres {
namespace {

constexpr std::size_t kAvailable = 227 * 1024;  // of an H200's SM
constexpr Layout kLayouts[] = {
    {Rows::kStaged, true}, {Rows::kStaged, false}, {Rows::kDirect, false}};

/// Phase 1 of bf16 sources.
ReadConfig choose(std::int64_t N, std::int64_t S, std::int64_t D) {
  const std::int64_t row = column_groups(D) * 8;
  return choose_read({.row_bytes = N * row * 2,
                      .table_floats = S * row,
                      .warp_floats = 4 * (query_tile(S) + 1) * N},
                     D, kLayouts, kAvailable);
}

TEST(AttnResChoices, EverythingFits) {
  for (const std::int64_t N : {1, 4, 9, 16, 64, 128}) {
    for (const std::int64_t S : {1, 6, 8, 64}) {
      for (const std::int64_t D : {1, 8, 896, 1168, 2048, 7168, 16384}) {
        const ReadConfig config = choose(N, S, D);
        ASSERT_GT(config.team_warps, 0) << N << " " << S << " " << D;
        EXPECT_LE(config.shared_bytes, kAvailable);
        EXPECT_LE(config.threads(), 32 * kCtaWarps);
        EXPECT_GE(config.teams, 1);
      }
    }
  }
}

TEST(AttnResChoices, TheHeadlineStagesFourTokensASm) {
  const ReadConfig config = choose(4, 8, 2048);
  EXPECT_EQ(describe(config, "queries"),
            "staged rows, 4 teams of 4 warps, queries in shared memory");
}

TEST(AttnResChoices, RowsThatDoNotFitTwiceComeFromTheCaches) {
  EXPECT_EQ(choose(64, 1, 2048).layout.rows, Rows::kDirect);
  EXPECT_EQ(choose(9, 8, 7168).layout.rows, Rows::kDirect);
  EXPECT_EQ(choose(9, 6, 2304).layout.rows, Rows::kStaged);
}

TEST(AttnResChoices, NothingIsChosenWhereNothingFits) {
  EXPECT_EQ(choose_read({.warp_floats = kAvailable}, 8, kLayouts, kAvailable).team_warps, 0);
}

TEST(AttnResChoices, GradientsOfFewQueriesAreHeldWhereAThreadHasOneGroup) {
  const ReadConfig eight_warps{{Rows::kStaged, true}, 8};
  EXPECT_EQ(held_queries(eight_warps, 1, 2048), 1);
  EXPECT_EQ(held_queries(eight_warps, 3, 2048), 4);
  EXPECT_EQ(held_queries(eight_warps, 8, 2048), 8);
  EXPECT_EQ(held_queries(eight_warps, 9, 2048), 0);
  EXPECT_EQ(held_queries(eight_warps, 8, 2049), 0);
  EXPECT_EQ(held_queries({{Rows::kDirect, true}, 8}, 8, 2048), 0);
  EXPECT_EQ(held_queries({{Rows::kStaged, false}, 8}, 8, 2048), 0);
}

TEST(AttnResChoices, TilesOfQueriesWasteFew) {
  const std::int64_t sizes[][2] = {{1, 1}, {2, 2},  {3, 4},  {4, 4},  {6, 8},
                                   {8, 8}, {12, 4}, {16, 8}, {24, 8}, {64, 8}};
  for (const auto& [S, tile] : sizes) EXPECT_EQ(query_tile(S), tile) << S;
}

HeldNeeds mix(std::int64_t tokens, std::int64_t N, std::int64_t D, DType dtype = DType::kBF16) {
  return {.tokens = tokens, .N = N, .D = D, .dtype = dtype};
}

/// Whether threads have all columns, and no CTA more of them than it may.
void expect_fits(const HeldLayout& layout, const HeldNeeds& needs) {
  EXPECT_GE(layout.sources, needs.N);
  EXPECT_GE(8 * layout.ranks * layout.threads, needs.D);
  EXPECT_LE(layout.threads, kHeldThreads);
  EXPECT_EQ(layout.threads % 32, 0);
  EXPECT_LE(layout.ranks * layout.threads, kMaxWidth / 8);  // the kernels' room for sums of warps
}

TEST(AttnResChoices, AMixHoldsEveryRowThatItTakes) {
  for (const std::int64_t N : {1, 2, 4, 5, 9, 16}) {
    for (const std::int64_t D : {8, 256, 264, 2048, 2304, 4096, 7168, 8200, 16384}) {
      for (const std::int64_t tokens : {1, 16, 64, 256, 65536}) {
        SCOPED_TRACE(std::to_string(N) + " " + std::to_string(D) + " " + std::to_string(tokens));
        const HeldNeeds needs = mix(tokens, N, D);
        const HeldLayout one = choose_held(needs);
        EXPECT_EQ(one.sources > 0, D <= 4096);
        if (one.sources > 0) expect_fits(one, needs);
        EXPECT_EQ(one.ranks, 1);
        const HeldLayout cluster = choose_cluster(needs, 132);
        EXPECT_EQ(cluster.sources > 0, D > 256);
        if (cluster.sources > 0) expect_fits(cluster, needs);
        EXPECT_LE(cluster.ranks, kMostRanks);
      }
    }
  }
}

TEST(AttnResChoices, AMixOfMoreSourcesComesFromTheCaches) {
  EXPECT_EQ(held_sources(17, DType::kBF16), 0);
  EXPECT_EQ(held_sources(10, DType::kF32), 0);
  EXPECT_EQ(choose_held(mix(1024, 17, 2048)).sources, 0);
  EXPECT_EQ(choose_cluster(mix(1024, 10, 2048, DType::kF32), 132).sources, 0);
}

TEST(AttnResChoices, FewTokensOfAMixAreSpreadOverTheSms) {
  const auto layout = [](std::int64_t tokens) { return choose_cluster(mix(tokens, 9, 7168), 132); };
  EXPECT_EQ(layout(1).ranks, 8);
  EXPECT_EQ(layout(1).threads, 128);
  EXPECT_EQ(layout(16).ranks, 8);
  EXPECT_EQ(layout(64).ranks, 2);
  EXPECT_EQ(layout(256).ranks, 2);
  EXPECT_EQ(choose_cluster(mix(1, 9, 16384), 132).ranks, 8);
  EXPECT_EQ(choose_cluster(mix(1, 9, 1024), 132).ranks, 2);  // two warps each
}

TEST(AttnResChoices, AClusterIsPreferredForWideRowsAndFewTokens) {
  EXPECT_TRUE(prefers_cluster(mix(65536, 9, 7168), 132));
  EXPECT_TRUE(prefers_cluster(mix(64, 5, 2048), 132));
  EXPECT_FALSE(prefers_cluster(mix(67, 5, 2048), 132));
  EXPECT_FALSE(prefers_cluster(mix(65536, 5, 4096), 132));
}

}  // namespace
}  // namespace attn::attnres
