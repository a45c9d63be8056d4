// Blocks: measured, and reduced to one number each.
#include "harness/blocks.h"

#include <algorithm>
#include <cmath>

#include "harness/statistics.h"

namespace attn {
namespace {

double median_log(const Block& block, Arm arm) {
  std::vector<double> logs;
  for (std::size_t i = 0; i < block.groups.size(); ++i) {
    if (block.arm(i) != arm) continue;
    for (const double ns : block.groups[i].ns) logs.push_back(std::log(ns));
  }
  std::sort(logs.begin(), logs.end());
  return quantile(logs, 0.5);
}

}  // namespace

Block measure_block(const TakeGroup& take, Arm first) {
  Block block{.first = first};
  for (std::size_t i = 0; i < block.groups.size(); ++i) block.groups[i] = take(block.arm(i));
  return block;
}

Block measure_steady_block(const TakeGroup& take,
                           Arm first,
                           const std::function<bool()>& slowed_down,
                           std::set<std::string>& flags) {
  constexpr int kTries = 3;
  Block block;
  for (int i = 0; i < kTries; ++i) {
    block = measure_block(take, first);
    if (!slowed_down()) return block;
  }
  flags.insert(std::string(kHardwareSlowdown));
  return block;
}

double log_ratio(const Block& block) {
  return median_log(block, Arm::kB) - median_log(block, Arm::kA);
}

std::optional<double> log_clock_ratio(const Block& block) {
  double sum[2] = {0, 0};
  for (std::size_t i = 0; i < block.groups.size(); ++i) {
    if (!block.groups[i].mhz) return std::nullopt;
    sum[block.arm(i) == Arm::kB] += *block.groups[i].mhz;
  }
  return std::log(sum[1] / sum[0]);
}

std::vector<double> pair_means(const ProcessBlocks& blocks, double (*number)(const Block&)) {
  std::vector<double> means;
  for (std::size_t i = 0; i < blocks.size(); i += 2) {
    const double one = number(blocks[i]);
    means.push_back(i + 1 < blocks.size() ? (one + number(blocks[i + 1])) / 2 : one);
  }
  return means;
}

std::vector<double> samples_of(const std::vector<ProcessBlocks>& processes, Arm arm) {
  std::vector<double> samples;
  for (const ProcessBlocks& blocks : processes) {
    for (const Block& block : blocks) {
      for (std::size_t i = 0; i < block.groups.size(); ++i) {
        const std::vector<double>& ns = block.groups[i].ns;
        if (block.arm(i) == arm) samples.insert(samples.end(), ns.begin(), ns.end());
      }
    }
  }
  return samples;
}

std::vector<double> clocks_of(const std::vector<ProcessBlocks>& processes, Arm arm) {
  std::vector<double> clocks;
  for (const ProcessBlocks& blocks : processes) {
    for (const Block& block : blocks) {
      for (std::size_t i = 0; i < block.groups.size(); ++i) {
        if (block.arm(i) != arm) continue;
        if (!block.groups[i].mhz) return {};
        clocks.push_back(*block.groups[i].mhz);
      }
    }
  }
  return clocks;
}

}  // namespace attn
