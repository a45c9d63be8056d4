// Every backend of every operator on small cases of the `edge` suite against the oracle: one generic
// test a backend. The whole suite is `attnbench verify <operator> --suite edge`.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "harness/operators.h"
#include "harness/plan.h"
#include "harness/runner.h"

namespace attn {
namespace {

constexpr double kSmallFlops = 2e7;  // keeps a backend's cells within seconds on two cores
constexpr std::size_t kManyCases = 300;
constexpr std::size_t kStride =
    3;  // of many, every third case, so that neighbours' variants alternate

constexpr std::size_t kRandomCases = 2000;

/// The backends that take every field of the contract in every combination.
const std::set<std::string> kWholeContract = {"cpu_reference", "cpu_fused", "libtorch",
                                              "fused_simt", "auto"};

/// An operator's backend.
struct Subject {
  std::shared_ptr<const AnyOperator> op;
  std::string backend;

  std::string name() const { return std::string(op->name()) + "_" + backend; }
};

/// Of the operators that have a suite of this name.
std::vector<Subject> subjects(const std::string& suite) {
  std::vector<Subject> all;
  for (const auto& op : operators()) {
    const std::vector<AnySuite> suites = op->suites();
    if (std::none_of(suites.begin(), suites.end(), [&](auto& one) { return one.name == suite; }))
      continue;
    for (const AnyBackend& backend : op->backends()) all.push_back({op, std::string(backend.id)});
  }
  return all;
}

std::string name_of_subject(const testing::TestParamInfo<Subject>& info) {
  return info.param.name();
}

/// What became of the cells of one backend.
struct Outcome {
  std::map<Status, int> counts;
  double worst = 0;
};

class Conformance : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    for (const AnyBackend& backend : GetParam().op->backends()) {
      if (backend.id == GetParam().backend) info_ = backend.info;
    }
    if (!info_) GTEST_SKIP() << GetParam().name() << " is not in this build";
    if (info_->memory == MemorySpace::kDevice && !machine_.gpu)
      GTEST_SKIP() << GetParam().name() << " needs a GPU: " << machine_.why_no_gpu;
  }

  /// Runs the backend on at most `count` cases of a suite; each must be right or refused.
  Outcome run(const std::string& suite, std::size_t count) const {
    Runner runner(machine_, {}, std::nullopt);
    Selection selection;
    selection.op = GetParam().op->name();
    selection.suite = suite;
    selection.backends = GetParam().backend;
    const std::vector<PlanItem> plan = make_plan(selection);
    const std::size_t stride = suite == "edge" && plan.size() > kManyCases ? kStride : 1;
    Outcome outcome;
    for (std::size_t i = 0; i < std::min(plan.size(), count); i += stride) {
      if (plan[i].problem->work().mma_flops > kSmallFlops) continue;
      const CellRow row = runner.run(plan[i]);
      ++outcome.counts[row.status];
      if (row.check) outcome.worst = std::max(outcome.worst, row.check->nerr_max);
      const bool fine = row.status == Status::kOk || row.status == Status::kUnsupported;
      EXPECT_TRUE(fine) << plan[i].name() << " " << name_of(row.status) << ": "
                        << row.reason.value_or("");
      if (row.status == Status::kUnsupported) {
        EXPECT_FALSE(row.reason.value_or("").empty());
      }
    }
    EXPECT_LE(outcome.worst, 1);
    return outcome;
  }

  Machine machine_ = find_machine(true);
  const BackendInfo* info_ = nullptr;
};

TEST_P(Conformance, EdgeCases) {
  Outcome outcome = run("edge", std::numeric_limits<std::uint32_t>::max());
  EXPECT_GE(outcome.counts[Status::kOk], 30) << GetParam().name() << " refuses almost everything";
  // The bound is tight: a correct backend comes near it somewhere. Not where scores and weights are
  // stored in 16 bits: that bound is for the largest scores, which few cases have.
  if (info_->numerics != NumericsClass::kStored) EXPECT_GE(outcome.worst, 0.3);
}

class RandomConformance : public Conformance {};

TEST_P(RandomConformance, RandomProblems) {
  Outcome outcome = run("random", kRandomCases);
  if (kWholeContract.count(GetParam().backend)) {
    EXPECT_EQ(outcome.counts[Status::kUnsupported], 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         Conformance,
                         testing::ValuesIn(subjects("edge")),
                         name_of_subject);
INSTANTIATE_TEST_SUITE_P(Backends,
                         RandomConformance,
                         testing::ValuesIn(subjects("random")),
                         name_of_subject);

}  // namespace
}  // namespace attn
