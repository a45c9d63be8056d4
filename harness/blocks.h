// The unit of a comparison: two blocks of 20 samples. A block has the order A x5 B x5 B x5 A x5, so that
// a drift that is linear over the block falls out of it; the second starts with the other arm, so that
// whatever depends on a sample's place in its block falls out of the pair.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace attn {

/// One side of a comparison.
enum class Arm : std::uint8_t { kA, kB };
constexpr Arm other(Arm arm) { return arm == Arm::kA ? Arm::kB : Arm::kA; }
constexpr std::string_view name_of(Arm arm) { return arm == Arm::kA ? "A" : "B"; }

inline constexpr int kGroupSamples = 5;

/// Consecutive samples of one arm.
struct Group {
  std::vector<double> ns{};
  std::optional<double> mhz{};  ///< clock beside the samples; empty where nothing reads it
};

/// Takes `kGroupSamples` samples of an arm: a real timer, or a test's.
using TakeGroup = std::function<Group(Arm)>;

/// Flag of a comparison that the hardware slowed down; it decides nothing.
inline constexpr std::string_view kHardwareSlowdown = "hw_slowdown";
/// Flag of one whose clock did not settle in the time that a warm-up may take.
inline constexpr std::string_view kClockUnsteady = "clock_unsteady";

struct Block {
  Arm first = Arm::kA;
  std::array<Group, 4> groups{};  ///< of first, other, other, first

  Arm arm(std::size_t group) const { return group == 0 || group == 3 ? first : other(first); }
};

Block measure_block(const TakeGroup& take, Arm first);

/// As above, but a block that the hardware slowed down is measured again; one that is slowed down
/// every time counts, and `flags` gets "hw_slowdown". `slowed_down` speaks of the time since its last
/// call.
Block measure_steady_block(const TakeGroup& take,
                           Arm first,
                           const std::function<bool()>& slowed_down,
                           std::set<std::string>& flags);

/// median(log t_B) - median(log t_A).
double log_ratio(const Block& block);
/// log(clock_B / clock_A), from the mean clocks of the arms; empty where a clock is unknown.
std::optional<double> log_clock_ratio(const Block& block);

/// What the blocks of one fresh process gave, in order: pairs that start with either arm.
using ProcessBlocks = std::vector<Block>;

/// Means of a number of each block over pairs; a last block without a partner counts alone.
std::vector<double> pair_means(const ProcessBlocks& blocks, double (*number)(const Block&));

/// The arm's samples in all these processes.
std::vector<double> samples_of(const std::vector<ProcessBlocks>& processes, Arm arm);
/// The arm's clocks beside them; empty when any is unknown.
std::vector<double> clocks_of(const std::vector<ProcessBlocks>& processes, Arm arm);

}  // namespace attn
