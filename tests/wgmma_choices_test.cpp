// What wgmma_sm90 chooses for a shape: pure functions, tested without a GPU.
#include "impls/colreduce/wgmma_choices.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace attn::colreduce {
namespace {

TEST(WgmmaChoices, EveryItemIsTakenOnce) {
  for (std::uint32_t heads : {1u, 2u, 7u, 64u}) {
    for (std::uint32_t units : {1u, 3u, 16u}) {
      for (std::uint32_t group : {1u, 2u, 5u, 64u}) {
        for (bool backwards : {false, true}) {
          const ItemOrder order{.heads = heads,
                                .units = units,
                                .group = std::min(group, heads),
                                .heads_backwards = backwards,
                                .units_backwards = !backwards};
          std::vector<int> seen(heads * units);
          for (std::uint32_t index = 0; index < heads * units; ++index) {
            const ItemPlace place = place_of(order, index);
            ASSERT_LT(place.head, heads);
            ASSERT_LT(place.unit, units);
            ++seen[place.head * units + place.unit];
          }
          EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), heads * units);
        }
      }
    }
  }
}

TEST(WgmmaChoices, RoundsOfAllCtasMakeUpTheItems) {
  for (std::uint32_t ctas : {1u, 3u, 132u}) {
    for (std::uint32_t items : {1u, 3u, 131u, 132u, 133u, 1000u}) {
      std::vector<int> seen(items);
      for (std::uint32_t cta = 0; cta < ctas; ++cta) {
        for (std::uint32_t round = 0;; ++round) {
          const std::uint32_t index = index_of_round(round, cta, ctas);
          if (index >= items) {  // nothing may follow
            EXPECT_GE(index_of_round(round + 1, cta, ctas), items);
            break;
          }
          ++seen[index];
        }
      }
      EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), items);
    }
  }
}

TEST(WgmmaChoices, CausalItemsBalance) {
  // 32 heads of 4 tiles of queries that see 2, 4, 6 and 8 tiles of keys.
  const ItemOrder order{.heads = 64, .units = 4, .group = 64, .units_backwards = true};
  constexpr std::uint32_t kCtas = 128;
  for (std::uint32_t cta = 0; cta < kCtas; ++cta) {
    std::uint32_t tiles = 0;
    for (std::uint32_t round = 0; index_of_round(round, cta, kCtas) < 256; ++round)
      tiles += 2 * (place_of(order, index_of_round(round, cta, kCtas)).unit + 1);
    EXPECT_EQ(tiles, 10u);
  }
}

TEST(WgmmaChoices, GroupsAreWithinTheHeads) {
  for (std::int64_t heads = 1; heads < 5000; heads = heads * 3 + 1) {
    for (std::int64_t bytes = 0; bytes < std::int64_t{1} << 32; bytes = bytes * 9 + 1) {
      EXPECT_EQ(choose_group(false, heads, bytes, 60 << 20), 1u);
      const std::uint32_t group = choose_group(true, heads, bytes, 60 << 20);
      EXPECT_GE(group, 1u);
      EXPECT_LE(group, heads);
    }
  }
}

TEST(WgmmaChoices, CtasFillTheDevice) {
  EXPECT_EQ(choose_ctas(5, 132), 5u);
  EXPECT_EQ(choose_ctas(132, 132), 132u);
  EXPECT_EQ(choose_ctas(100000, 132), 132u);
}

TEST(WgmmaChoices, FewQueriesAreSplitByKeys) {
  const auto splits = [](std::int64_t heads, std::int64_t M, std::int64_t N) {
    return choose_row_splits({.items = heads * ((M + 255) / 256),
                              .keys = N,
                              .D = 128,
                              .lse_bytes = 4 * heads * lse_pitch(M),
                              .out_bytes = 4 * heads * N,
                              .spare_bytes = kExtraBytes,
                              .sm_count = 132});
  };
  EXPECT_EQ(splits(32, 4096, 4096).parts, 1);
  EXPECT_EQ(splits(32, 1024, 1024).parts, 1);  // 128 items
  EXPECT_EQ(splits(32, 512, 262144).parts, 2);
  EXPECT_TRUE(splits(32, 512, 262144).in_output);
  EXPECT_GE(splits(1, 64, 16384).parts, 16);
}

}  // namespace
}  // namespace attn::colreduce
