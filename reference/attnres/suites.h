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

/// The fields that tell an operator's problems apart: a ReadProblem's, a TokenProblem's (it merges one
/// source) or a PlaneProblem's (it asks no query).
enum class CaseFields : std::uint8_t { kReads, kTokens, kPlanes };

/// "shapes", "decode", "small" and "edge", in this order, without cases that differ in other fields alone.
std::vector<ReadSuite> family_suites(CaseFields fields);

/// The suites as those of an operator whose problem has the fields of Shared.
template <class Problem, class Shared>
std::vector<Suite<Problem>> suites_of(CaseFields fields) {
  std::vector<Suite<Problem>> suites;
  for (const ReadSuite& from : family_suites(fields)) {
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
  return suites_of<Problem, ReadProblem>(CaseFields::kReads);
}

template <class Problem>
std::vector<Suite<Problem>> merge_suites() {
  return suites_of<Problem, TokenProblem>(CaseFields::kTokens);
}

template <class Problem>
std::vector<Suite<Problem>> pair_suites() {
  return suites_of<Problem, PlaneProblem>(CaseFields::kPlanes);
}

}  // namespace attn::attnres
