// Collects blocks from fresh processes until the estimate is precise or the time is spent.
#pragma once

#include <functional>
#include <vector>

#include "harness/decision.h"

namespace attn {

/// A fresh process that holds both arms. `next` measures a block that starts with this arm, `close`
/// ends the process; both throw when the process fails.
struct BlockProcess {
  std::function<Block(Arm first)> next;
  std::function<void()> close;
  /// Whether its blocks have taken so little time that more of them are next to free; empty: no.
  std::function<bool()> brief{};
};
/// Short cells have wide blocks: their processes take this many times the least number.
inline constexpr std::size_t kBriefBlocks = 4;

using OpenProcess = std::function<BlockProcess()>;

struct Gathered {
  std::vector<ProcessBlocks> processes;  ///< none is empty
  bool precise = false;  ///< the half-width reached kPreciseHalfWidth; else the budget was spent
};

/// Whether to end. The level's minimum is there (`enough`) or not.
using OutOfTime = std::function<bool(bool enough)>;

/// Measures the level's minimum, and kBriefBlocks times as many blocks in a process that is brief; then
/// goes on (with blocks in a level of one process, else with processes) until the half-width is at most
/// kPreciseHalfWidth, or kMostBlocks are there. `out_of_time` ends it after any pair of blocks, but for
/// a process beyond the minimum, which is finished: a shorter one would weigh as much as the others. The
/// size of the difference plays no part. Every process, and every block of a pair, starts with the other
/// arm.
Gathered gather(const Level& level, const OpenProcess& open, const OutOfTime& out_of_time);

}  // namespace attn
