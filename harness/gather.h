// Collects blocks from fresh processes until the estimate is precise or the time is spent.
#pragma once

#include <functional>
#include <vector>

#include "harness/decision.h"

namespace attn {

/// A fresh process that holds both arms. `next` measures a block, `close` ends the process; both
/// throw when the process fails.
struct BlockProcess {
  std::function<Block()> next;
  std::function<void()> close;
};
using OpenProcess = std::function<BlockProcess(Arm first)>;

struct Gathered {
  std::vector<ProcessBlocks> processes;  ///< none is empty
  bool precise = false;  ///< the half-width reached kPreciseHalfWidth; else the budget was spent
};

/// Measures the level's minimum, then goes on (with blocks in a level of one process, else with
/// processes) until the half-width is at most kPreciseHalfWidth, or kMostBlocks are there.
/// `out_of_time` ends it anywhere. The size of the difference plays no part. Every process starts with the other arm.
Gathered gather(const Level& level,
                const OpenProcess& open,
                const std::function<bool()>& out_of_time);

}  // namespace attn
