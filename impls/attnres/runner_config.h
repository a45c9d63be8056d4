// How a network is run: schedule, and what is kept for the backward.
#pragma once

#include <algorithm>
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

  /// kAuto: blocks with at most so many older sources are read one-shot. By planes moved the forward has a
  /// tie at two; with its backward, or where additions are calls of their own, two phases are ahead there.
  std::int64_t few_sources = 2;

  /// Whether the sublayers of block n, which has n older sources, read on their own.
  bool one_shot(std::int64_t n) const {
    if (schedule != Schedule::kAuto) return schedule == Schedule::kOneShot;
    return n <= (gradient ? std::min<std::int64_t>(few_sources, 1) : few_sources);
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
