// From blocks to a verdict: the rule that decides whether B is faster than A. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/blocks.h"

namespace attn {

/// What a result may be used for; the least number of fresh processes and of blocks in each, and
/// the least difference that is called one.
struct Level {
  std::string_view name;
  std::size_t processes;
  std::size_t blocks;
  double delta;
};
inline constexpr Level kProvisional{"provisional", 1, 12, 0.01};
inline constexpr Level kClaim{"claim", 5, 8, 0.005};
static_assert(kProvisional.blocks % 2 == 0 && kClaim.blocks % 2 == 0, "blocks come in pairs");

inline constexpr double kConfidence = 0.99;         // of every interval
inline constexpr double kPreciseHalfWidth = 0.005;  // no more blocks are needed
inline constexpr std::size_t kMostBlocks = 400;     // more do not help: the noise is not white
inline constexpr double kClockSpread = 0.01;        // between the arms, before cycles are asked

/// Of B against A: kFaster means that B takes less time.
enum class Verdict : std::uint8_t { kFaster, kSlower, kSame, kUndecided };
constexpr std::string_view name_of(Verdict verdict) {
  constexpr std::string_view kNames[] = {"FASTER", "SLOWER", "SAME", "UNDECIDED"};
  return kNames[static_cast<std::size_t>(verdict)];
}

/// log(t_B / t_A) with its uncertainty: the larger of the intervals over pairs of blocks and over
/// process means. One process has the first alone.
struct Estimate {
  double log_ratio = 0;
  double half_width = std::numeric_limits<double>::infinity();
  double p = 1;                         ///< of equal speed
  bool one_sign = false;                ///< all processes agree in sign
  std::vector<double> process_means{};  ///< of log ratios
};

/// From the log ratios of the pairs of blocks, one list a process. Needs one or more in each.
Estimate estimate(const std::vector<std::vector<double>>& log_ratios);

/// The verdict on an estimate when differences below `delta` (0.005: half a percent) count as none.
Verdict judge(const Estimate& estimate, double delta);

/// Everything that is known of one comparison.
struct Decision {
  Verdict verdict = Verdict::kUndecided;
  std::optional<std::string> reason{};  ///< why it is undecided although the times say otherwise
  Estimate time{};
  std::optional<double> clock_ratio{};  ///< B's over A's, medians; empty where no clock is read
  std::optional<Estimate> cycles{};     ///< stands beside `time` where the clocks differ
};

/// The level's minimum of processes with the level's minimum of blocks each is there.
bool enough(const std::vector<ProcessBlocks>& processes, const Level& level);

/// Undecided below the level's minimum, and where times and cycles disagree.
Decision decide(const std::vector<ProcessBlocks>& processes, const Level& level, double delta);

}  // namespace attn
