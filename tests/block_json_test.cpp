// Blocks as JSON: what is written is read, and what is no block is an error.
#include "harness/block_json.h"

#include <gtest/gtest.h>

namespace attn {
namespace {

Block counting(Arm first) {
  Block block{.first = first};
  double ns = 1000;
  for (Group& group : block.groups) {
    group.mhz = ns;
    for (int i = 0; i < kGroupSamples; ++i) group.ns.push_back(ns++);
  }
  return block;
}

TEST(BlockJson, RoundTrip) {
  for (const Arm first : {Arm::kA, Arm::kB}) {
    const Block block = counting(first);
    const Block back = block_from_json(Json::parse(to_json(block).dump()));
    EXPECT_EQ(back.first, block.first);
    for (std::size_t i = 0; i < block.groups.size(); ++i) {
      EXPECT_EQ(back.groups[i].ns, block.groups[i].ns);
      EXPECT_EQ(back.groups[i].mhz, block.groups[i].mhz);
    }
    EXPECT_EQ(log_ratio(back), log_ratio(block));
  }
}

TEST(BlockJson, AnUnknownClockIsNull) {
  Block block = counting(Arm::kA);
  block.groups[3].mhz.reset();
  const Json json = to_json(block);
  EXPECT_TRUE(json["mhz"].is_null());
  EXPECT_FALSE(block_from_json(json).groups[0].mhz.has_value());
}

TEST(BlockJson, ATruncatedBlockIsAnError) {
  Json json = to_json(counting(Arm::kA));
  json["ns"].erase(19);
  EXPECT_THROW(block_from_json(json), Json::exception);
  EXPECT_THROW(block_from_json(Json::object()), Json::exception);
}

}  // namespace
}  // namespace attn
