// Every backend of every operator on small cases of the `edge` suite against the oracle: one generic
// test a backend. The whole suite is `attnbench verify colreduce --suite edge`.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "harness/operators.h"
#include "harness/plan.h"
#include "harness/runner.h"

namespace attn {
namespace {

constexpr double kSmallFlops = 2e7;  // keeps a backend's cells within seconds on two cores
constexpr std::size_t kStride = 3;   // every third case, so that neighbours' variants alternate

constexpr std::size_t kRandomCases = 2000;

/// The backends that take every field of the contract in every combination.
const std::set<std::string> kWholeContract = {"cpu_reference", "cpu_fused", "libtorch",
                                              "fused_simt"};

std::vector<std::string> backend_ids() {
  std::vector<std::string> ids;
  for (const AnyBackend& backend : operators().front()->backends()) ids.emplace_back(backend.id);
  return ids;
}

/// What became of the cells of one backend.
struct Outcome {
  std::map<Status, int> counts;
  double worst = 0;
};

class Conformance : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (const AnyBackend& backend : operators().front()->backends()) {
      if (backend.id == GetParam()) info_ = backend.info;
    }
    if (!info_) GTEST_SKIP() << GetParam() << " is not in this build";
    if (info_->memory == MemorySpace::kDevice && !machine_.gpu)
      GTEST_SKIP() << GetParam() << " needs a GPU: " << machine_.why_no_gpu;
  }

  /// Runs the backend on `count` cases of a suite, `stride` apart; each must be right or refused.
  Outcome run(const std::string& suite, std::size_t count, std::size_t stride) const {
    Runner runner(machine_, {}, std::nullopt);
    Selection selection;
    selection.op = "colreduce";
    selection.suite = suite;
    selection.backends = GetParam();
    const std::vector<PlanItem> plan = make_plan(selection);
    Outcome outcome;
    for (std::size_t i = 0; i < std::min(plan.size(), count * stride); i += stride) {
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
  Outcome outcome = run("edge", std::numeric_limits<std::uint32_t>::max(), kStride);
  EXPECT_GE(outcome.counts[Status::kOk], 30) << GetParam() << " refuses almost everything";
  // The bound is tight: a correct backend comes near it somewhere. Not where scores and weights are
  // stored in 16 bits: that bound is for the largest scores, which few cases have.
  if (info_->numerics != NumericsClass::kStored) EXPECT_GE(outcome.worst, 0.3);
}

TEST_P(Conformance, RandomProblems) {
  Outcome outcome = run("random", kRandomCases, 1);
  if (kWholeContract.count(GetParam())) {
    EXPECT_EQ(outcome.counts[Status::kUnsupported], 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         Conformance,
                         testing::ValuesIn(backend_ids()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace attn
