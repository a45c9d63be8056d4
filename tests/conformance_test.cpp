// Every backend of every operator on small cases of the `edge` suite against the oracle: one generic
// test a backend. The whole suite is `attnbench verify colreduce --suite edge`.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "harness/operators.h"
#include "harness/plan.h"
#include "harness/runner.h"

namespace attn {
namespace {

constexpr double kSmallFlops = 2e7;  // keeps a backend's cells within seconds on two cores
constexpr std::size_t kStride = 3;   // every third case, so that neighbours' variants alternate

std::vector<std::string> backend_ids() {
  std::vector<std::string> ids;
  for (const AnyBackend& backend : operators().front()->backends()) ids.emplace_back(backend.id);
  return ids;
}

class Conformance : public testing::TestWithParam<std::string> {};

TEST_P(Conformance, EdgeCases) {
  const Machine machine = find_machine(true);
  Runner runner(machine, {}, std::nullopt);
  Selection selection;
  selection.op = "colreduce";
  selection.suite = "edge";
  selection.backends = GetParam();
  const std::vector<PlanItem> plan = make_plan(selection);
  const AnyBackend backend = plan.front().op->backends()[plan.front().backend];
  if (!backend.info) GTEST_SKIP() << GetParam() << " is not in this build";
  if (backend.info->memory == MemorySpace::kDevice && !machine.gpu)
    GTEST_SKIP() << GetParam() << " needs a GPU: " << machine.why_no_gpu;

  std::map<Status, int> counts;
  double worst = 0;
  for (std::size_t i = 0; i < plan.size(); i += kStride) {
    if (plan[i].problem->work().mma_flops > kSmallFlops) continue;
    const CellRow row = runner.run(plan[i]);
    ++counts[row.status];
    if (row.check) worst = std::max(worst, row.check->nerr_max);
    const bool fine = row.status == Status::kOk || row.status == Status::kUnsupported;
    EXPECT_TRUE(fine) << plan[i].name() << " " << name_of(row.status) << ": "
                      << row.reason.value_or("");
    if (row.status == Status::kUnsupported) {
      EXPECT_FALSE(row.reason.value_or("").empty());
    }
  }
  EXPECT_GE(counts[Status::kOk], 30) << GetParam() << " refuses almost everything";
  EXPECT_LE(worst, 1);
  // The bound is tight: a correct backend comes near it somewhere. Not where scores and weights are
  // stored in 16 bits: that bound is for the largest scores, which few cases have.
  if (backend.info->numerics != NumericsClass::kStored) EXPECT_GE(worst, 0.3);
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         Conformance,
                         testing::ValuesIn(backend_ids()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace attn
