// The oracles' gradients against central differences of the oracles' values, and the composition of two
// phases against one read over all sources, in value and gradient.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "reference/attnres/read.h"
#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"
#include "tests/central_differences.h"
#include "tests/op_case.h"

namespace attn {
namespace {

using attnres::Option;

TEST(AttnResGradients, Phase1MatchesCentralDifferences) {
  auto p = small<AttnResPhase1Bwd::Problem>(5);
  p.N = 3;
  p.S = 2;
  p.dlse = Option::kOn;
  OpCase<AttnResPhase1Bwd> backward(p);
  const auto gradient = backward.oracle();
  auto forward_problem = small<AttnResPhase1::Problem>(5);
  static_cast<attnres::ReadProblem&>(forward_problem) = p;
  OpCase<AttnResPhase1> forward(forward_problem);  // the same labels and seed: the same inputs
  const auto dout = backward.values("dout");
  const auto dlse = backward.values("dlse");
  const auto loss = [&](OpCase<AttnResPhase1>& c) {
    const auto r = c.oracle();
    return inner(dout, r.value.data()) + inner(dlse, r.value.data() + r.begin(1));
  };
  std::size_t at = 0;
  for (std::int64_t n = 0; n < p.N; ++n) {
    for (std::int64_t i = 0; i < p.tokens() * p.D; ++i, ++at)
      EXPECT_NEAR(gradient.value[at], difference(forward, "v", n, i, loss), kDifferencing) << at;
  }
  for (std::int64_t i = 0; i < p.S * p.D; ++i, ++at)
    EXPECT_NEAR(gradient.value[at], difference(forward, "wt", -1, i, loss), kDifferencing) << at;
  EXPECT_EQ(at, gradient.value.size());
}

TEST(AttnResGradients, MergeMatchesCentralDifferences) {
  auto p = small<AttnResMergeBwd::Problem>(6);
  p.dlse = Option::kOn;
  OpCase<AttnResMergeBwd> backward(p);
  const auto gradient = backward.oracle();
  auto forward_problem = small<AttnResMerge::Problem>(6);
  forward_problem.lse = Option::kOn;
  OpCase<AttnResMerge> forward(forward_problem);
  const auto dout = backward.values("dout");
  const auto dlse = backward.values("dlse");
  const auto loss = [&](OpCase<AttnResMerge>& c) {
    const auto r = c.oracle();
    return inner(dout, r.value.data()) + inner(dlse, r.value.data() + r.begin(1));
  };
  std::size_t at = 0;
  for (const char* name : {"partial", "read", "z", "wt"}) {
    for (std::size_t i = 0; i < forward.values(name).size(); ++i, ++at)
      EXPECT_NEAR(gradient.value[at],
                  difference(forward, name, -1, static_cast<std::int64_t>(i), loss), kDifferencing)
          << name << i;
  }
  EXPECT_EQ(at, gradient.value.size());
}

/// N sources with S = 1, the last of them once more as a partial sum.
struct TwoPhases {
  static constexpr std::int64_t kN = 4;

  TwoPhases() : whole(read(kN)), older(read(kN - 1)), merge(merge_problem()) {
    for (std::int64_t n = 0; n + 1 < kN; ++n) older.set_all("v", n, whole.values("v", n));
    older.set_all("wt", -1, whole.values("wt"));
    merge.set_all("wt", -1, whole.values("wt"));
    merge.set_all("partial", -1, whole.values("v", kN - 1));
  }
  static AttnResPhase1::Problem read(std::int64_t N) {
    auto p = small<AttnResPhase1::Problem>(7);
    p.N = N;
    p.S = 1;
    return p;
  }
  static AttnResMerge::Problem merge_problem() {
    auto p = small<AttnResMerge::Problem>(7);
    p.lse = Option::kOn;
    return p;
  }

  OpCase<AttnResPhase1> whole;
  OpCase<AttnResPhase1> older;
  OpCase<AttnResMerge> merge;
};

TEST(AttnResLaws, AMergeOfTwoPhasesIsOneRead) {
  TwoPhases phases;
  const auto whole = phases.whole.oracle();
  const auto older = phases.older.oracle();
  const std::size_t rows = older.begin(1);
  phases.merge.set_all("read", -1, {older.value.begin(), older.value.begin() + rows});
  phases.merge.set_all("z", -1, {older.value.begin() + rows, older.value.end()});
  const auto merged = phases.merge.oracle();
  ASSERT_EQ(merged.value.size(), whole.value.size());
  for (std::size_t i = 0; i < merged.value.size();
       ++i)  // between the phases lies a rounding to fp32
    EXPECT_NEAR(merged.value[i], whole.value[i], 0x1p-22 * (1 + std::abs(whole.value[i]))) << i;
}

TEST(AttnResLaws, TheGradientsOfTwoPhasesAreThoseOfOneRead) {
  TwoPhases phases;
  const auto older = phases.older.oracle();
  const std::size_t rows = older.begin(1);

  const auto problem = [](std::int64_t N) {
    AttnResPhase1Bwd::Problem p;
    static_cast<attnres::ReadProblem&>(p) = TwoPhases::read(N);
    p.dlse = Option::kOn;
    return p;
  };
  OpCase<AttnResPhase1Bwd> whole_bwd(problem(TwoPhases::kN));
  whole_bwd.set_all("dlse", -1, std::vector<double>(rows / 7, 0.0));
  const auto expected = whole_bwd.oracle();

  auto merge_problem = small<AttnResMergeBwd::Problem>(7);
  OpCase<AttnResMergeBwd> merge_bwd(merge_problem);
  merge_bwd.set_all("wt", -1, whole_bwd.values("wt"));
  merge_bwd.set_all("partial", -1, whole_bwd.values("v", TwoPhases::kN - 1));
  merge_bwd.set_all("read", -1, {older.value.begin(), older.value.begin() + rows});
  merge_bwd.set_all("z", -1, {older.value.begin() + rows, older.value.end()});
  merge_bwd.set_all("dout", -1, whole_bwd.values("dout"));
  const auto merge = merge_bwd.oracle();

  OpCase<AttnResPhase1Bwd> older_bwd(problem(TwoPhases::kN - 1));
  const auto part = [&](std::size_t output) { return output_of(merge, output); };
  older_bwd.set_all("dout", -1, part(1));
  older_bwd.set_all("dlse", -1, part(2));
  const auto phase1 = older_bwd.oracle();

  std::vector<double> composed(phase1.value.begin(), phase1.value.end() - 7);
  const std::vector<double> partial = part(0);
  composed.insert(composed.end(), partial.begin(), partial.end());
  const std::vector<double> query = part(3);
  for (std::size_t d = 0; d < query.size(); ++d)
    composed.push_back(query[d] + phase1.value[phase1.value.size() - 7 + d]);
  ASSERT_EQ(composed.size(), expected.value.size());
  for (std::size_t i = 0; i < composed.size(); ++i)
    EXPECT_NEAR(composed[i], expected.value[i], 0x1p-20) << i;
}

TEST(AttnResLaws, TheLogitsGradientsAddUpToTheNormalisers) {
  const attnres::Weights weights = attnres::softmax({{0.5, 0}, {-1, 0}, {2, 0}});
  const auto gradient = attnres::logit_gradient(weights, {{3, 0}, {-1, 0}, {0.25, 0}}, 0.75);
  EXPECT_NEAR(std::accumulate(gradient.g.begin(), gradient.g.end(), 0.0), 0.75, kExact);
}

TEST(AttnResLaws, SourcesMayBePermuted) {
  auto p = small<AttnResPhase1::Problem>(9);
  p.N = 3;
  OpCase<AttnResPhase1> c(p);
  const auto before = c.oracle();
  const auto first = c.values("v", 0);
  c.set_all("v", 0, c.values("v", 2));
  c.set_all("v", 2, first);
  const auto after = c.oracle();
  for (std::size_t i = 0; i < before.value.size(); ++i)
    EXPECT_NEAR(before.value[i], after.value[i], kExact) << i;
}

TEST(AttnResLaws, AQueryOfZerosGivesTheMean) {
  auto p = small<AttnResPhase1::Problem>(3);
  OpCase<AttnResPhase1> c(p);
  c.set_all("wt", -1, std::vector<double>(static_cast<std::size_t>(p.S * p.D), 0.0));
  const auto reference = c.oracle();
  for (std::int64_t i = 0; i < p.tokens() * p.D; ++i) {
    double mean = 0;
    for (std::int64_t n = 0; n < p.N; ++n) mean += c.get("v", n, i) / static_cast<double>(p.N);
    EXPECT_NEAR(reference.value[static_cast<std::size_t>(i)], mean, kExact);
  }
  EXPECT_NEAR(reference.value.back(), std::log(static_cast<double>(p.N)), kExact);
}

TEST(AttnResKnownAnswers, OfOneColumnTheLogitIsTheSign) {
  auto p = small<AttnResPhase1::Problem>(1);
  p.N = 2;
  p.S = 1;
  p.B = 1;
  p.T = 1;
  p.eps = 0x1p-60;
  OpCase<AttnResPhase1> c(p);
  c.set("v", 0, 0, 3);
  c.set("v", 1, 0, -5);
  c.set("wt", -1, 0, 1);
  const auto reference = c.oracle();
  const double e = std::exp(1.0);
  EXPECT_NEAR(reference.value[0], (3 * e - 5 / e) / (e + 1 / e), kExact);
  EXPECT_NEAR(reference.value[1], std::log(e + 1 / e), kExact);
}

}  // namespace
}  // namespace attn
