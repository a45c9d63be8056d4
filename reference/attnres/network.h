// A network of L sublayers with block attention residuals, as its operators see it: sizes, blocks, what a
// schedule moves, suites. README.md beside this file has the maths.
#pragma once

#include <cstdint>
#include <vector>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// Every sublayer returns its input, so that what is computed is the residual part alone.
struct NetworkProblem : TokenProblem {
  std::int64_t L = 32;  ///< sublayers
  std::int64_t S = 8;   ///< sublayers of a block; the last block may be short

  std::int64_t blocks() const { return (L + S - 1) / S; }
  /// Sublayers of block n, which counts from 1; block 0 is the embedding.
  std::int64_t block_size(std::int64_t n) const { return n < blocks() ? S : L - (n - 1) * S; }
  /// The query of sublayer i of block n; query L is that of the output.
  std::int64_t query(std::int64_t n, std::int64_t i) const { return (n - 1) * S + i; }
};

template <class Self, class Visitor>
void visit_network(Self& self, Visitor&& visit) {
  visit.size("L", "sublayers, each returning its input", self.L);
  visit.size("S", "sublayers of a block", self.S);
  visit_sizes(self, visit);
  visit.choice("dtype", "of all planes", self.dtype, kDTypeNames);
  visit.choice("query_dtype", "of the queries; auto: dtype", self.query_dtype, kTypeChoiceNames);
  visit.real("eps", "added to the mean square of a source", self.eps);
}

Support validate_network(const NetworkProblem& p);

/// Planes [B, T, D] that a block's reads move at least, with sums fused into the reads: one read of the
/// sources for each sublayer, or one for all of them and merges. Its own sum is part of it.
std::int64_t one_shot_planes(std::int64_t n, std::int64_t sublayers);
std::int64_t two_phase_planes(std::int64_t n, std::int64_t sublayers);
/// The same for the gradients, the reads computed again before.
std::int64_t one_shot_gradient_planes(std::int64_t n, std::int64_t sublayers);
std::int64_t two_phase_gradient_planes(std::int64_t n, std::int64_t sublayers);

/// What a network asks for, or its backward from block representations.
Work network_work(const NetworkProblem& p, bool gradient);

/// "shapes", "small" and "edge". Sublayers that return their input make all sources of a token multiples
/// of one vector: only an eps near their mean square tells them apart.
std::vector<Suite<NetworkProblem>> network_suites();

}  // namespace attn::attnres
