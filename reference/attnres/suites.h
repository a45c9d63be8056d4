// The problem lists of the family: the shapes at which its operators are timed, decode, what a CPU
// manages, and a correctness matrix.
#pragma once

#include <algorithm>
#include <set>
#include <string>
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

/// Suites of an operator whose problem is a SourceProblem: cases that differ in S alone are left out.
template <class Problem>
std::vector<Suite<Problem>> source_suites() {
  const auto id = [](const typename Suite<Problem>::Case& one) {
    FieldLister fields;
    Problem::fields(one.problem, fields);
    std::string text = std::to_string(static_cast<int>(one.family));
    for (const FieldValue& field : fields.values) text += ' ' + field.text;
    return text;
  };
  std::vector<Suite<Problem>> suites = suites_of<Problem, SourceProblem>(CaseFields::kReads);
  for (Suite<Problem>& suite : suites) {
    std::set<std::string> seen;
    std::erase_if(suite.cases, [&](const auto& one) { return !seen.insert(id(one)).second; });
  }
  return suites;
}

/// Adds every case of a suite once more with a norm of its output, of each kind in turn.
template <class Cases>
void append_norms(Cases& cases) {
  for (std::size_t i = 0, count = cases.size(); i < count; ++i) {
    auto normed = cases[i];
    normed.problem.norm = i % 4 < 2 ? OutputNorm::kInstead : OutputNorm::kBoth;
    if (i % 7 == 6) normed.problem.norm_eps = 0.5;
    cases.push_back(normed);
  }
}

/// Adds the gradients of some norms' weights to what is there.
template <class Cases>
void add_weight_gradients(Cases& cases) {
  for (std::size_t i = 3; i < cases.size(); i += 4) {
    if (cases[i].problem.has_norm()) cases[i].problem.dgamma = Store::kAdd;
  }
}

/// Adds the one-shot read of the published shape, N = 5 and D = 2048, once more, with a change.
template <class Cases, class Change>
void append_headline(Cases& cases, Change&& change) {
  auto headline =
      *std::find_if(cases.begin(), cases.end(), [](const auto& one) { return one.problem.N == 5; });
  change(headline.problem);
  cases.push_back(headline);
}

}  // namespace attn::attnres
