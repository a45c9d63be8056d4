// How a network is run: schedule, what is kept for the backward, who computes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "reference/attnres_network/contract.h"

namespace attn::attnres {

/// Whether sublayers read all their sources themselves, or merge their partial sum into one read of the
/// older blocks for the whole block.
enum class Schedule : std::uint8_t { kAuto, kOneShot, kTwoPhase };
inline constexpr std::array<std::string_view, 3> kScheduleNames = {"auto", "one_shot", "two_phase"};

/// What the backward computes again. Gradients are bitwise equal where sublayers are.
enum class Recompute : std::uint8_t {
  kNone,     ///< nothing: reads of older blocks and partial sums are kept
  kKeepO1,  ///< sublayers and merges; reads of older blocks are kept
  kBlock,    ///< everything but the blocks' sums
};
inline constexpr std::array<std::string_view, 3> kRecomputeNames = {"none", "keep_o1", "block"};

struct RunnerConfig {
  NetworkProblem network;
  Schedule schedule = Schedule::kAuto;
  bool gradient = false;  ///< a backward follows
  Recompute recompute = Recompute::kBlock;
  /// Id of the backend that computes where it is among an operator's; empty: each operator's fastest.
  std::string backend{};

  /// Whether the sublayers of block n, which have n older sources, read on their own. By planes moved
  /// the forward has a tie at two older sources, and each read's gradient one at one.
  bool one_shot(std::int64_t n) const {
    if (schedule != Schedule::kAuto) return schedule == Schedule::kOneShot;
    return n <= (gradient ? 1 : 2);
  }
  std::int64_t longest_block() const { return std::min(network.L, network.S); }
  /// Elements and bytes of a plane [B, T, D].
  std::int64_t plane_elements() const { return network.tokens() * network.D; }
  std::size_t plane_bytes() const {
    return static_cast<std::size_t>(plane_elements()) * size_of(network.dtype);
  }
};

}  // namespace attn::attnres
