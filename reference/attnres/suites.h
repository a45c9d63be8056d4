// The problem lists of the family: the shapes at which its operators are timed, decode, what a CPU
// manages, and a correctness matrix.
#pragma once

#include <vector>

#include "reference/attnres/contract.h"

namespace attn::attnres {

/// A shape with the family of its inputs.
struct ReadCase {
  ReadProblem problem;
  InputFamily family = InputFamily::kNormal;
};

/// A suite of shapes, the same for every operator of the family.
struct ReadSuite {
  const char* name;
  const char* summary;
  std::vector<ReadCase> cases;
};

/// "shapes", "decode", "small" and "edge", in this order. Where `reads` is false the operator merges
/// one source: cases that differ in N, S, or the layout of sources alone are left out.
std::vector<ReadSuite> family_suites(bool reads);

/// The suites as those of an operator whose problem has a ReadProblem's or a TokenProblem's fields.
template <class Problem, class Shared>
std::vector<Suite<Problem>> suites_of(bool reads) {
  std::vector<Suite<Problem>> suites;
  for (const ReadSuite& from : family_suites(reads)) {
    Suite<Problem> suite{from.name, from.summary, {}};
    for (const ReadCase& one : from.cases) {
      auto& added = suite.cases.emplace_back();
      added.family = one.family;
      static_cast<Shared&>(added.problem) = one.problem;
    }
    suites.push_back(suite);
  }
  return suites;
}

template <class Problem>
std::vector<Suite<Problem>> read_suites() {
  return suites_of<Problem, ReadProblem>(true);
}

template <class Problem>
std::vector<Suite<Problem>> merge_suites() {
  return suites_of<Problem, TokenProblem>(false);
}

}  // namespace attn::attnres
