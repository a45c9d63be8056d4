// Blocks to JSON and back.
#include "harness/block_json.h"

#include <algorithm>
#include <cmath>

namespace attn {

Json to_json(const Block& block) {
  Json ns = Json::array();
  Json mhz = Json::array();
  bool clocks = true;
  for (const Group& group : block.groups) {
    for (const double sample : group.ns) ns.push_back(std::llround(sample));
    clocks = clocks && group.mhz.has_value();
    if (group.mhz) mhz.push_back(std::round(*group.mhz));
  }
  return {{"first", name_of(block.first)}, {"ns", ns}, {"mhz", clocks ? mhz : Json(nullptr)}};
}

Block block_from_json(const Json& json) {
  Block block{.first = json.at("first") == name_of(Arm::kA) ? Arm::kA : Arm::kB};
  for (std::size_t i = 0; i < block.groups.size(); ++i) {
    for (std::size_t k = 0; k < kGroupSamples; ++k)
      block.groups[i].ns.push_back(std::max(
          1.0, json.at("ns").at(i * kGroupSamples + k).get<double>()));  // its log is taken
    if (!json.at("mhz").is_null()) block.groups[i].mhz = json.at("mhz").at(i).get<double>();
  }
  return block;
}

}  // namespace attn
