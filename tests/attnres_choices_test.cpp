// How fused_simt lays a token out on an SM: what is chosen fits, and the published shapes get the layout
// that they are meant for.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace attn::attnres
