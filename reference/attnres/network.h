// A network of L sublayers with block attention residuals, as its operators see it: sizes, blocks, what a
// schedule moves, suites. README.md beside this file has the maths.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// Which sublayers have planes of their own: all of them, or those of one block, which the next block uses
/// again. A network of 32 sublayers has gigabytes of planes otherwise.
enum class PlaneUse : std::uint8_t { kOwn, kReused };
inline constexpr std::array<std::string_view, 2> kPlaneUseNames = {"own", "reused"};

/// What sublayers return is given, and so is the gradient of what they read: the rest is the network's
/// residual part, which all L + 1 reads and the blocks' sums are.
struct NetworkProblem : TokenProblem {
  std::int64_t L = 32;  ///< sublayers
  std::int64_t S = 8;   ///< sublayers of a block; the last block may be short
  PlaneUse planes = PlaneUse::kOwn;

  std::int64_t blocks() const { return (L + S - 1) / S; }
  std::int64_t longest_block() const { return std::min(L, S); }
  /// Sublayers of block n, which counts from 1; block 0 is the embedding.
  std::int64_t block_size(std::int64_t n) const { return n < blocks() ? S : L - (n - 1) * S; }
  /// The sublayer, and so its query, at place i of block n; query L is that of the output.
  std::int64_t query(std::int64_t n, std::int64_t i) const { return (n - 1) * S + i; }

  std::int64_t plane_count() const { return planes == PlaneUse::kOwn ? L : longest_block(); }
  std::int64_t plane_of(std::int64_t sublayer) const {
    return planes == PlaneUse::kOwn ? sublayer : sublayer % S;
  }
  /// Whether no later sublayer has the same plane.
  bool is_last_user(std::int64_t sublayer) const {
    return planes == PlaneUse::kOwn || sublayer + S >= L;
  }
};

template <class Self, class Visitor>
void visit_network(Self& self, Visitor&& visit) {
  visit.size("L", "sublayers", self.L);
  visit.size("S", "sublayers of a block", self.S);
  visit_sizes(self, visit);
  visit.choice("dtype", "of all planes", self.dtype, kDTypeNames);
  visit.choice("query_dtype", "of the queries; auto: dtype", self.query_dtype, kTypeChoiceNames);
  visit.real("eps", "added to the mean square of a source", self.eps);
  visit.choice("planes", "own: one a sublayer; reused: one a sublayer of a block", self.planes,
               kPlaneUseNames);
}

Support validate_network(const NetworkProblem& p);

/// Planes [B, T, D] that the reads of block n move at least, with sums fused into them: one read of all
/// sources for each sublayer, or one for the whole block and merges. The block's sum is part of it.
std::int64_t one_shot_planes(std::int64_t n, std::int64_t sublayers);
std::int64_t two_phase_planes(std::int64_t n, std::int64_t sublayers);
/// The same for the gradients, with the reads computed again before.
std::int64_t one_shot_gradient_planes(std::int64_t n, std::int64_t sublayers);
std::int64_t two_phase_gradient_planes(std::int64_t n, std::int64_t sublayers);

/// What a network asks for, or its backward from the blocks' sums.
Work network_work(const NetworkProblem& p, bool gradient);

/// "shapes", "small" and "edge".
std::vector<Suite<NetworkProblem>> network_suites();

template <class Problem>
std::vector<Suite<Problem>> network_suites_of() {
  std::vector<Suite<Problem>> suites;
  for (const auto& from : network_suites()) {
    suites.push_back({from.name, from.summary, {}});
    for (const auto& one : from.cases)
      suites.back().cases.push_back({Problem{one.problem}, one.family});
  }
  return suites;
}

}  // namespace attn::attnres
