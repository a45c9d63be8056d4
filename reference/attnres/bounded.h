// Rows with a bound on how far a network in 16 or 32 bits may be from them: what the oracles of networks
// share. README.md beside this file derives the bounds.
#pragma once

#include <vector>

#include "reference/attnres/network.h"
#include "reference/attnres/read.h"

namespace attn::attnres {

/// A row of D elements in fp64, and how far a stored plane may be from each.
struct Bounded {
  Row value;
  Row error;

  static Bounded exact(Row row) {
    Row none(row.size());
    return {std::move(row), std::move(none)};
  }
  static Bounded zeros(std::size_t D) { return {Row(D), Row(D)}; }
  /// It is stored once more, rounded to a type.
  void round(DType dtype);
  void add(const Bounded& other);
};

/// One read over sources of which some are only known within bounds. Sources are read in the order of
/// their blocks; with `merges` the last one is a partial sum, which a schedule may merge into a read of
/// the others that has been rounded.
struct BoundedRead {
  BoundedRead(const Row& query,
              const std::vector<const Bounded*>& sources,
              bool merges,
              const NetworkProblem& p);

  Bounded out;  ///< rounded

  /// Adds the gradient of each source to `to`, and that of the query, given the output's.
  void add_gradients(const Bounded& dout,
                     const std::vector<Bounded*>& to,
                     Bounded& dquery) const;

 private:
  /// dout's inner product with source n.
  Dot product(const Bounded& dout, std::size_t n) const;

  const Row& query_;
  std::vector<const Bounded*> sources_;
  bool merges_;
  const NetworkProblem& problem_;
  std::vector<double> r_;
  std::vector<double> r_error_;  ///< relative
  std::vector<Logit> logits_;
  std::vector<double> p_;
  std::vector<double> p_error_;
};

}  // namespace attn::attnres
