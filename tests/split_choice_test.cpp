// The number of key splits: a pure function, tested without a GPU.
#include <gtest/gtest.h>

#include <cstdint>

#include "impls/colreduce/key_splits.h"

namespace attn::colreduce {
namespace {

constexpr std::int64_t kSlots = 264;  // two CTAs on each of 132 SMs

TEST(SplitChoice, OnePartWhereTilesOfQueriesFillTheDevice) {
  EXPECT_EQ(choose_key_splits({.items = 4096, .key_tiles = 16, .slots = kSlots, .limit = 64}), 1);
  EXPECT_EQ(choose_key_splits({.items = 264, .key_tiles = 256, .slots = kSlots, .limit = 64}), 1);
}

TEST(SplitChoice, FewTilesOfQueriesAreSplitUntilTheyFillTheDevice) {
  const int splits =
      choose_key_splits({.items = 32, .key_tiles = 256, .slots = kSlots, .limit = 256});
  EXPECT_GE(32 * splits, 3 * kSlots / 4);
  EXPECT_LE(32 * splits, 4 * kSlots);
  EXPECT_EQ(choose_key_splits({.items = 128, .key_tiles = 256, .slots = kSlots, .limit = 32}), 2);
}

TEST(SplitChoice, ScratchMemoryLimitsTheParts) {
  EXPECT_EQ(choose_key_splits({.items = 1, .key_tiles = 4096, .slots = kSlots, .limit = 3}), 3);
  EXPECT_EQ(choose_key_splits({.items = 1, .key_tiles = 4096, .slots = kSlots, .limit = 0}), 1);
}

TEST(SplitChoice, ShortRowsOfKeysAreNotSplit) {
  EXPECT_EQ(choose_key_splits({.items = 1, .key_tiles = 1, .slots = kSlots, .limit = 64}), 1);
  EXPECT_EQ(choose_key_splits({.items = 1, .key_tiles = 4, .slots = kSlots, .limit = 64}), 1);
}

TEST(SplitChoice, StaysInRangeForEveryShape) {
  for (std::int64_t items = 1; items < 3000; items = items * 3 / 2 + 1) {
    for (std::int64_t tiles = 1; tiles < 9000; tiles = tiles * 2 + 1) {
      for (std::int64_t slots : {1, 13, 264, 10000}) {
        for (std::int64_t limit : {0, 1, 7, 5000}) {
          const int splits = choose_key_splits(
              {.items = items, .key_tiles = tiles, .slots = slots, .limit = limit});
          ASSERT_GE(splits, 1);
          ASSERT_LE(splits, tiles);
          ASSERT_TRUE(splits == 1 || splits <= limit);
        }
      }
    }
  }
}

}  // namespace
}  // namespace attn::colreduce
