// The runner against backends that are broken on purpose: each must get its status, none may stop
// the sweep, and a right one must pass.
#include "harness/runner.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/broken_backends.h"

namespace attn {
namespace {

class RunnerTest : public testing::Test {
 protected:
  CellRow run(std::string_view backend, bool timed = false) {
    Runner runner(machine_, {.timed = timed, .sample_seconds = 1e-3}, Ceilings{});
    return runner.run(toy_item(backend));
  }
  void expect(std::string_view backend, Status status, std::string_view reason) {
    const CellRow row = run(backend);
    EXPECT_EQ(name_of(row.status), name_of(status)) << backend;
    EXPECT_NE(row.reason.value_or("").find(reason), std::string::npos) << row.reason.value_or("");
  }

  Machine machine_ = find_machine(/*want_gpu=*/false);
};

TEST_F(RunnerTest, ARightBackendPasses) {
  const CellRow row = run("right");
  EXPECT_EQ(row.status, Status::kOk) << row.reason.value_or("");
  ASSERT_TRUE(row.check.has_value());
  EXPECT_LE(row.check->nerr_max, 1);
  EXPECT_TRUE(row.check->bit_stable);
  EXPECT_EQ(row.memory->workspace, 64u);
  EXPECT_FALSE(row.time.has_value());
}

TEST_F(RunnerTest, TimingKeepsEverySampleAndChecksAgain) {
  const CellRow row = run("right", /*timed=*/true);
  ASSERT_TRUE(row.time.has_value());
  EXPECT_GE(row.time->cold.n, 5u);
  EXPECT_EQ(row.time->cold.samples.size(), row.time->cold.n);
  EXPECT_GE(row.time->flush_bytes, 2 * machine_.cpu.l2_bytes);
  EXPECT_EQ(row.check->after, std::optional<bool>(true));
}

TEST_F(RunnerTest, WhatIsPaidOnceIsOutsideEverySample) {
  const CellRow row = run("slow_start", /*timed=*/true);
  ASSERT_TRUE(row.time.has_value()) << row.reason.value_or("");
  EXPECT_GE(row.time->set_up.planning_ns, 1e9 * kSlowPlanSeconds);
  EXPECT_LT(row.time->set_up.planning_ns, 1e9 * kSlowFirstCallSeconds);
  EXPECT_GE(row.time->set_up.first_call_ns, 1e9 * kSlowFirstCallSeconds);
  EXPECT_GT(row.time->set_up.allocation_ns, 0) << "it has a workspace";
  EXPECT_LT(row.time->cold.median, 1e9 * kSlowPlanSeconds);
  EXPECT_LT(row.time->hot.median, 1e9 * kSlowPlanSeconds);
}

TEST_F(RunnerTest, EveryColdSampleHasItsClock) {
  const CellRow row = run("right", /*timed=*/true);
  ASSERT_TRUE(row.clock.has_value());
  if (row.clock->mhz.empty()) GTEST_SKIP() << "nothing tells the clock here";
  EXPECT_EQ(row.clock->mhz.size(), row.time->cold.n);
  for (const double mhz : row.clock->mhz) EXPECT_GT(mhz, 100);
  EXPECT_FALSE(row.clock->driver.reasons.has_value()) << "a CPU has no NVML";
}

/// T11 on a GPU: what a captured graph leaves out, or does only once, is found out.
class GpuGraph : public RunnerTest {
 protected:
  void SetUp() override {
    machine_ = find_machine(/*want_gpu=*/true);
    if (!machine_.gpu) GTEST_SKIP() << "no GPU: " << machine_.why_no_gpu;
  }
  CellRow replayed(std::string_view backend) {
    Runner runner(machine_, {.timed = true, .sample_seconds = 1e-3, .graph = true}, std::nullopt);
    return runner.run(toy_item(backend));
  }
};

TEST_F(GpuGraph, AReplayIsVerifiedAndTimed) {
  const CellRow row = replayed("cuda_right");
  EXPECT_EQ(row.status, Status::kOk) << row.reason.value_or("");
  ASSERT_TRUE(row.time && row.time->graph);
  EXPECT_GT(row.time->graph->median, 0);
  EXPECT_EQ(row.clock->mhz.size(), row.time->cold.n);
}

TEST_F(GpuGraph, AReplayThatLeavesThePoisonIsIncorrect) {
  const CellRow row = replayed("cuda_counts_calls");
  EXPECT_EQ(row.status, Status::kIncorrect);
  EXPECT_NE(row.reason.value_or("").find("a replay of its graph"), std::string::npos);
}

TEST_F(GpuGraph, AGraphWithoutAKernelIsIncorrect) {
  const CellRow row = replayed("cuda_elsewhere");
  EXPECT_EQ(row.status, Status::kIncorrect);
  EXPECT_EQ(row.reason, "its graph holds no kernel");
}

TEST_F(GpuGraph, ALaunchThatCannotBeCapturedSaysSo) {
  const CellRow row = replayed("cuda_synchronises");
  EXPECT_EQ(row.status, Status::kOk) << row.reason.value_or("");
  EXPECT_FALSE(row.time->graph.has_value());
  EXPECT_EQ(std::count(row.flags.begin(), row.flags.end(), "not_capturable"), 1);
}

TEST_F(RunnerTest, WrongOutputsAreIncorrect) {
  expect("wrong", Status::kIncorrect, "element 32");
  expect("nan", Status::kIncorrect, "element 3 is nan");
  expect("stale", Status::kIncorrect, "element 63");
}

TEST_F(RunnerTest, DamageIsIncorrect) {
  expect("beyond", Status::kIncorrect, "wrote outside out");
  expect("before", Status::kIncorrect, "wrote outside out");
  expect("input", Status::kIncorrect, "changed its input q");
  expect("scratch", Status::kIncorrect, "wrote outside its workspace");
}

TEST_F(RunnerTest, DeclaredDeterminismIsEnforced) {
  expect("reads", Status::kIncorrect, "different bits");
}

/// A backend without a single class is held to that of each launch.
TEST_F(RunnerTest, TheLaunchNamesTheErrorBound) {
  expect("loose", Status::kOk, "");
  expect("strict", Status::kIncorrect, "element 0");
  EXPECT_EQ(run("strict").numerics, "fp64");
}

TEST_F(RunnerTest, TheLastTimedRunIsCheckedToo) {
  const CellRow row = run("tiring", /*timed=*/true);
  EXPECT_EQ(row.status, Status::kIncorrect);
  EXPECT_EQ(row.check->after, std::optional<bool>(false));
}

TEST_F(RunnerTest, ErrorsBecomeRows) {
  expect("throws", Status::kCrash, "bang");
  expect("runs_out", Status::kOom, "memory ran out");
  expect("greedy", Status::kOom, "GiB free");
}

TEST_F(RunnerTest, RefusalsCarryTheirReason) {
  expect("refuses", Status::kUnsupported, "D must not be 8");
  expect("device", Status::kUnsupported, "needs a GPU");
  expect("absent", Status::kNotBuilt, "leaves the backend out");
}

TEST_F(RunnerTest, ARunnerGoesOnAfterFailures) {
  Runner runner(machine_, {}, std::nullopt);
  EXPECT_EQ(runner.run(toy_item("right")).status, Status::kOk);
  EXPECT_EQ(runner.run(toy_item("refuses")).status, Status::kUnsupported);
  EXPECT_FALSE(runner.tainted());
  EXPECT_EQ(runner.run(toy_item("throws")).status, Status::kCrash);
  EXPECT_TRUE(runner.tainted());
  EXPECT_EQ(runner.run(toy_item("right")).status, Status::kOk);
  EXPECT_EQ(runner.run(toy_item("input")).status, Status::kIncorrect);
}

TEST_F(RunnerTest, BitsThatHavePassedElsewhereAreNotComparedAgain) {
  Runner first(machine_, {}, std::nullopt);
  first.run(toy_item("right"));
  const std::string right = toy_item("right").name();
  ASSERT_EQ(first.verified().count(right), 1u);

  VerifiedCells marked = first.verified();
  marked[right].check.nerr_max = 0.125;  // shows where the check comes from
  marked[toy_item("wrong").name()] = marked[right];
  Runner next(machine_, {}, std::nullopt);
  next.trust(marked);
  const CellRow same = next.run(toy_item("right"));
  EXPECT_EQ(same.status, Status::kOk);
  EXPECT_EQ(same.check->nerr_max, 0.125);
  EXPECT_EQ(next.run(toy_item("wrong")).status, Status::kIncorrect) << "other bits";

  VerifiedCells elsewhere;
  elsewhere["another cell"] = marked[right];
  Runner other_cell(machine_, {}, std::nullopt);
  other_cell.trust(elsewhere);
  EXPECT_NE(other_cell.run(toy_item("right")).check->nerr_max, 0.125) << "another question";

  Runner other_data(machine_, {.seed = 2}, std::nullopt);
  other_data.trust(marked);
  EXPECT_NE(other_data.run(toy_item("right")).check->nerr_max, 0.125) << "other inputs";
}

TEST_F(RunnerTest, WhatDoesNotPassOrRepeatIsNotPassedOn) {
  Runner runner(machine_, {}, std::nullopt);
  for (const char* backend : {"wrong", "nan", "reads"}) runner.run(toy_item(backend));
  EXPECT_TRUE(runner.verified().empty());
}

TEST_F(RunnerTest, TwoBackendsShareTensorsAndAreSampledInTurns) {
  Runner runner(machine_, {}, std::nullopt);
  std::vector<std::size_t> taken;
  CellRow inner;
  const CellRow outer = runner.run_with(toy_item("right"), [&](const TakeSamples& a) {
    inner = runner.run_with(toy_item("right"), [&](const TakeSamples& b) {
      for (const TakeSamples* arm : {&a, &b, &b, &a})
        taken.push_back((*arm)(/*cold=*/false, 5).ns.size());
    });
  });
  EXPECT_EQ(taken, (std::vector<std::size_t>{5, 5, 5, 5}));
  for (const CellRow& row : {outer, inner}) {
    EXPECT_EQ(row.status, Status::kOk) << row.reason.value_or("");
    EXPECT_EQ(row.check->after, std::optional<bool>(true));
    EXPECT_EQ(row.mode, "verify");
  }
}

TEST_F(RunnerTest, ABackendThatTiresWhileItIsSampledIsIncorrect) {
  Runner runner(machine_, {}, std::nullopt);
  const CellRow row = runner.run_with(toy_item("tiring"), [](const TakeSamples&) {});
  EXPECT_EQ(row.status, Status::kIncorrect);
  EXPECT_EQ(row.check->after, std::optional<bool>(false));
}

TEST_F(RunnerTest, WhatAnotherBackendWroteIsNoOutput) {
  // The last run of `lazy` writes nothing: the other's right answer lies in the shared output.
  Runner runner(machine_, {}, std::nullopt);
  const CellRow row = runner.run_with(toy_item("lazy"), [&](const TakeSamples&) {
    EXPECT_EQ(runner.run(toy_item("right")).status, Status::kOk);
  });
  EXPECT_EQ(row.status, Status::kIncorrect);
}

TEST_F(RunnerTest, ABackendThatDoesNotPassIsNotSampled) {
  Runner runner(machine_, {}, std::nullopt);
  for (const char* backend : {"wrong", "refuses", "throws", "absent"}) {
    runner.run_with(toy_item(backend), [&](const TakeSamples&) { FAIL() << backend; });
  }
}

TEST_F(RunnerTest, KeysTellCellsApart) {
  RunnerOptions options;
  const std::string key = row_key(toy_item("right"), machine_, options);
  EXPECT_EQ(row_key(toy_item("right"), machine_, options), key);
  EXPECT_NE(row_key(toy_item("wrong"), machine_, options), key);
  options.seed = 2;
  EXPECT_NE(row_key(toy_item("right"), machine_, options), key);
  options = {.timed = true};
  EXPECT_NE(row_key(toy_item("right"), machine_, options), key);
}

}  // namespace
}  // namespace attn
