// The stop rule.
#include "harness/gather.h"

#include <cmath>

namespace attn {
namespace {

bool is_precise(const std::vector<std::vector<double>>& log_ratios) {
  return estimate(log_ratios).half_width <= std::log1p(kPreciseHalfWidth);
}

}  // namespace

Gathered gather(const Level& level, const OpenProcess& open, const OutOfTime& out_of_time) {
  Gathered gathered;
  std::vector<std::vector<double>> log_ratios;  // of pairs
  Arm first = Arm::kA;
  std::size_t blocks_left = kMostBlocks;
  const auto spent = [&] {
    return blocks_left == 0 || out_of_time(enough(gathered.processes, level));
  };
  while (!gathered.precise && !spent()) {
    const bool extra = enough(gathered.processes, level);
    const BlockProcess process = open();
    ProcessBlocks& blocks = gathered.processes.emplace_back();
    log_ratios.emplace_back();
    const bool only = level.processes == 1;  // the one process goes on until all is precise
    const auto wants_more = [&] {
      if (only) return !gathered.precise;
      return blocks.size() < level.blocks ||
             (blocks.size() < kBriefBlocks * level.blocks && process.brief && process.brief());
    };
    const auto must_go_on = [&] {
      return extra && blocks.size() < level.blocks && blocks_left > 0;
    };
    while (wants_more() && (must_go_on() || !spent())) {
      double sum = 0;
      for (const Arm start : {first, other(first)}) {
        blocks.push_back(process.next(start));
        sum += log_ratio(blocks.back());
      }
      blocks_left -= 2;
      log_ratios.back().push_back(sum / 2);
      gathered.precise = enough(gathered.processes, level) && is_precise(log_ratios);
    }
    process.close();
    first = other(first);
    if (blocks.empty()) {  // the time ended while it started
      gathered.processes.pop_back();
      log_ratios.pop_back();
    }
  }
  return gathered;
}

}  // namespace attn
