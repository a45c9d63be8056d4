// Input data: the generator's published vectors, and what each family promises.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "harness/host_memory.h"
#include "harness/input_value.h"
#include "harness/seed.h"

namespace attn {
namespace {

TEST(Philox, PublishedVectors) {
  // Known answers of philox4x32-10 from the Random123 distribution.
  const PhiloxBlock zero = philox(0, 0, 0);
  EXPECT_EQ(zero.word[0], 0x6627e8d5u);
  EXPECT_EQ(zero.word[1], 0xe169c58du);
  EXPECT_EQ(zero.word[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.word[3], 0x9b00dbd8u);
  const PhiloxBlock ones = philox(~0ull, ~0ull, ~0ull);
  EXPECT_EQ(ones.word[0], 0x408f276du);
  EXPECT_EQ(ones.word[1], 0x41c83b0eu);
  EXPECT_EQ(ones.word[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.word[3], 0x6d5451fdu);
}

std::vector<float> draw(
    InputFamily family, TensorRole role, std::int64_t rows, std::int64_t D, std::uint64_t key = 7) {
  std::vector<float> values;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t d = 0; d < D; ++d)
      values.push_back(input_value(family, role, key, {0, row, rows, d, D}));
  }
  return values;
}

double moment(const std::vector<float>& values, int power) {
  double sum = 0;
  for (const float x : values) sum += std::pow(x, power);
  return sum / static_cast<double>(values.size());
}

TEST(InputFamily, NormalHasTheMomentsOfANormal) {
  const auto values = draw(InputFamily::kNormal, TensorRole::kQuery, 1000, 100);
  EXPECT_LT(std::abs(moment(values, 1)), 0.015);
  EXPECT_LT(std::abs(moment(values, 2) - 1), 0.02);
  EXPECT_LT(std::abs(moment(values, 4) - 2.85), 0.1);  // eight uniforms: kurtosis 3 - 1.2 / 8
}

TEST(InputFamily, UniformHasUnitVarianceAndBounds) {
  const auto values = draw(InputFamily::kUniform, TensorRole::kKey, 1000, 100);
  EXPECT_LT(std::abs(moment(values, 2) - 1), 0.02);
  for (const float x : values) ASSERT_LE(std::abs(x), 1.7320509f);
}

TEST(InputFamily, NegMakesEveryProductNegative) {
  for (const float x : draw(InputFamily::kNeg, TensorRole::kQuery, 10, 10)) ASSERT_GE(x, 0);
  for (const float x : draw(InputFamily::kNeg, TensorRole::kKey, 10, 10)) ASSERT_LE(x, 0);
}

TEST(InputFamily, TailHeatsTheLastPartialTile) {
  const auto values = draw(InputFamily::kTail, TensorRole::kKey, 131, 1);
  for (std::size_t row = 0; row < 131; ++row) {
    if (row < 128) {
      ASSERT_LE(values[row], 0) << row;
    } else {
      ASSERT_GE(values[row], 0) << row;
    }
  }
}

TEST(InputFamily, OneHotRowsAreUnitVectors) {
  const auto values = draw(InputFamily::kOneHot, TensorRole::kKey, 7, 5);
  for (std::size_t row = 0; row < 7; ++row) {
    for (std::size_t d = 0; d < 5; ++d) ASSERT_EQ(values[row * 5 + d], row % 5 == d ? 64.0f : 0.0f);
  }
}

TEST(Seed, TensorsCasesAndSeedsDiffer) {
  std::set<std::uint64_t> keys;
  for (const char* tensor : {"q", "k"}) {
    for (const char* id : {"B1", "B2"}) {
      for (const std::uint64_t seed : {1, 2}) keys.insert(tensor_key(seed, id, tensor));
    }
  }
  EXPECT_EQ(keys.size(), 8u);
}

/// Broadcast axes share memory: filling them must not depend on who writes last.
TEST(HostMemory, BroadcastAxesHoldTheValuesOfPositionZero) {
  const TensorSpec dense{.name = "k",
                         .role = TensorRole::kKey,
                         .shape = {1, 1, 5, 4},
                         .strides = {20, 20, 4, 1},
                         .storage_elements = 20};
  TensorSpec broadcast = dense;
  broadcast.shape = {3, 2, 5, 4};
  broadcast.strides = {0, 0, 4, 1};
  std::vector<float> a(20);
  std::vector<float> b(20);
  host::fill_input(dense, a.data(), InputFamily::kNormal, 3);
  host::fill_input(broadcast, b.data(), InputFamily::kNormal, 3);
  EXPECT_EQ(a, b);
}

TEST(HostMemory, HashSeesChangedAndMovedWords) {
  std::vector<std::uint32_t> words = {1, 2, 3, 4};
  const auto bytes = words.size() * 4;
  const std::uint64_t before = host::hash(words.data(), bytes);
  std::swap(words[1], words[2]);
  EXPECT_NE(host::hash(words.data(), bytes), before);
  std::swap(words[1], words[2]);
  EXPECT_EQ(host::hash(words.data(), bytes), before);
  words[3] ^= 0x80000000u;
  EXPECT_NE(host::hash(words.data(), bytes), before);
}

}  // namespace
}  // namespace attn
