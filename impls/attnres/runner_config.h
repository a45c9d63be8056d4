// How a network is run: schedule, and what is kept for the backward.
#pragma once

#include <cstddef>
#include <cstdint>

#include "reference/attnres_network/contract.h"

namespace attn::attnres {

/// Whether sublayers read all their sources themselves, or merge their partial sum into one read of the
/// older blocks for the whole block.
enum class Schedule : std::uint8_t { kAuto, kOneShot, kTwoPhase };

/// What the backward computes again. Gradients are bitwise equal where sublayers are.
enum class Recompute : std::uint8_t {
  kNone,    ///< nothing: reads of older blocks and partial sums are kept
  kKeepO1,  ///< sublayers and merges: reads of older blocks are kept
  kBlock,   ///< all but the blocks' sums
};

struct RunnerConfig {
  NetworkProblem network;
  Schedule schedule = Schedule::kAuto;
  bool gradient = false;  ///< a backward follows
  Recompute recompute = Recompute::kBlock;
  /// Reads add the last sublayer's output to the partial sum themselves, where a backend can.
  bool fused_updates = true;

  /// Whether the sublayers of block n, which has n older sources, read on their own. By planes moved the
  /// forward has a tie at two older sources, and with its backward two phases are ahead there.
  bool one_shot(std::int64_t n) const {
    if (schedule != Schedule::kAuto) return schedule == Schedule::kOneShot;
    return n <= (gradient ? 1 : 2);
  }
  bool keeps_reads() const { return gradient && recompute != Recompute::kBlock; }
  bool keeps_sums() const { return gradient && recompute == Recompute::kNone; }
  bool recomputes() const { return gradient && recompute != Recompute::kNone; }

  std::int64_t plane_elements() const { return network.tokens() * network.D; }
  /// Bytes of a plane [B, T, D], and of fp32 scalars [B, T].
  std::size_t plane_bytes() const {
    return static_cast<std::size_t>(plane_elements()) * size_of(network.dtype);
  }
  std::size_t scalar_bytes() const {
    return static_cast<std::size_t>(network.tokens()) * sizeof(float);
  }
};

}  // namespace attn::attnres
