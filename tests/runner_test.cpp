// The runner against backends that are broken on purpose: each must get its status, none may stop
// the sweep, and a right one must pass.
#include "harness/runner.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>

#include "tests/toy_operator.h"

namespace attn {
namespace {

using Problem = RowSum::Problem;
using Tensors = RowSum::Tensors;

Support supports_all(const Problem&, const DeviceInfo&) { return Support::yes(); }

void write_row_sums(const Problem& p, const Tensors& t) {
  for (std::int64_t m = 0; m < p.M; ++m)
    store_element(t.out.data, t.out.dtype, m, static_cast<float>(RowSum::row_sum(p, t, m)));
}

float* out(const Tensors& t) { return static_cast<float*>(t.out.data); }

/// A backend that writes the row sums and then does `Mischief`.
template <void (*Mischief)(const Problem&, const Tensors&, Workspace)>
Launch plan_with(const Problem& p, const Tensors& t, Workspace w, const DeviceInfo&) {
  return {.enqueue = [=](Stream) {
    write_row_sums(p, t);
    Mischief(p, t, w);
  }};
}

void nothing(const Problem&, const Tensors&, Workspace) {}
void one_element(const Problem& p, const Tensors& t, Workspace) { out(t)[p.M / 2] *= 1.5f; }
void one_nan(const Problem&, const Tensors& t, Workspace) { out(t)[3] = NAN; }
void beyond_output(const Problem& p, const Tensors& t, Workspace) { out(t)[p.M] = 1; }
void before_output(const Problem&, const Tensors& t, Workspace) { out(t)[-1] = 1; }
void its_input(const Problem&, const Tensors& t, Workspace) {
  static_cast<float*>(t.q.data)[0] += 1;
}
void beyond_workspace(const Problem&, const Tensors&, Workspace w) {
  static_cast<char*>(w.data)[w.bytes] = 1;
}
void throws(const Problem&, const Tensors&, Workspace) { throw std::runtime_error("bang"); }
void runs_out(const Problem&, const Tensors&, Workspace) { throw std::bad_alloc(); }
void reads_workspace(const Problem&, const Tensors& t, Workspace w) {
  std::uint32_t word = 0;
  std::memcpy(&word, w.data, sizeof word);
  out(t)[0] = std::nextafter(out(t)[0], word == 0xFFFFFFFFu ? 10.0f : -10.0f);  // within tolerance
}

Launch plan_stale(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  return {.enqueue = [=](Stream) {
    for (std::int64_t m = 0; m + 1 < p.M; ++m)  // the last row keeps what was there
      out(t)[m] = static_cast<float>(RowSum::row_sum(p, t, m));
  }};
}

/// Runs of a launch until its answer is compared: one over other inputs, two over the case's.
constexpr int kVerifyRuns = 3;

/// Right in the runs that are compared, wrong in a later one.
Launch plan_tiring(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  return {.enqueue = [=, runs = std::make_shared<int>(0)](Stream) {
    write_row_sums(p, t);
    if (++*runs > kVerifyRuns) out(t)[0] = 1e6f;
  }};
}

/// Right in all runs before the answer is compared; later it leaves the output alone.
Launch plan_lazy(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  return {.enqueue = [=, runs = std::make_shared<int>(0)](Stream) {
    if (++*runs <= kVerifyRuns) write_row_sums(p, t);
  }};
}

std::size_t workspace_64(const Problem&, const DeviceInfo&) { return 64; }
std::size_t workspace_huge(const Problem&, const DeviceInfo&) { return std::size_t{1} << 60; }

using RowSumPlan = Launch (*)(const Problem&, const Tensors&, Workspace, const DeviceInfo&);

constexpr Backend<RowSum> make(std::string_view id,
                               RowSumPlan plan,
                               MemorySpace memory = MemorySpace::kHost) {
  return {.info = {.id = id, .summary = "test", .memory = memory, .math = "fp32"},
          .supports = supports_all,
          .workspace_bytes = workspace_64,
          .plan = plan};
}

const Backend<RowSum> kRight = make("right", plan_with<nothing>);
const Backend<RowSum> kWrong = make("wrong", plan_with<one_element>);
const Backend<RowSum> kNan = make("nan", plan_with<one_nan>);
const Backend<RowSum> kBeyond = make("beyond", plan_with<beyond_output>);
const Backend<RowSum> kBefore = make("before", plan_with<before_output>);
const Backend<RowSum> kInput = make("input", plan_with<its_input>);
const Backend<RowSum> kScratch = make("scratch", plan_with<beyond_workspace>);
const Backend<RowSum> kThrows = make("throws", plan_with<throws>);
const Backend<RowSum> kRunsOut = make("runs_out", plan_with<runs_out>);
const Backend<RowSum> kReads = make("reads", plan_with<reads_workspace>);
const Backend<RowSum> kStale = make("stale", plan_stale);
const Backend<RowSum> kTiring = make("tiring", plan_tiring);
const Backend<RowSum> kLazy = make("lazy", plan_lazy);
const Backend<RowSum> kDevice = make("device", plan_with<nothing>, MemorySpace::kDevice);
const Backend<RowSum> kGreedy = {.info = kRight.info,
                                 .supports = supports_all,
                                 .workspace_bytes = workspace_huge,
                                 .plan = plan_with<nothing>};
const Backend<RowSum> kRefuses = {.info = kRight.info,
                                  .supports =
                                      [](const Problem& p, const DeviceInfo&) {
                                        return p.D == 8 ? Support::no("D must not be 8")
                                                        : Support::yes();
                                      },
                                  .plan = plan_with<nothing>};

const BackendSlot<RowSum> kSlots[] = {
    {"right", &kRight},      {"wrong", &kWrong},   {"nan", &kNan},         {"beyond", &kBeyond},
    {"before", &kBefore},    {"input", &kInput},   {"scratch", &kScratch}, {"throws", &kThrows},
    {"runs_out", &kRunsOut}, {"reads", &kReads},   {"stale", &kStale},     {"tiring", &kTiring},
    {"device", &kDevice},    {"greedy", &kGreedy}, {"refuses", &kRefuses}, {"absent", nullptr},
    {"lazy", &kLazy}};

class RunnerTest : public testing::Test {
 protected:
  CellRow run(std::string_view backend, bool timed = false) {
    Runner runner(machine_, {.timed = timed, .sample_seconds = 1e-3}, Ceilings{});
    return runner.run(item(backend));
  }
  PlanItem item(std::string_view backend) const {
    std::size_t index = 0;
    while (kSlots[index].id != backend) ++index;
    const std::shared_ptr<const AnyProblem> problem = operator_->default_problem();
    return {operator_, problem, case_id(*problem), "", InputFamily::kNormal, index};
  }
  void expect(std::string_view backend, Status status, std::string_view reason) {
    const CellRow row = run(backend);
    EXPECT_EQ(name_of(row.status), name_of(status)) << backend;
    EXPECT_NE(row.reason.value_or("").find(reason), std::string::npos) << row.reason.value_or("");
  }

  std::shared_ptr<const AnyOperator> operator_ = std::make_shared<OperatorAdapter<RowSum>>();
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
  EXPECT_EQ(runner.run(item("throws")).status, Status::kCrash);
  EXPECT_EQ(runner.run(item("right")).status, Status::kOk);
  EXPECT_EQ(runner.run(item("input")).status, Status::kIncorrect);
  EXPECT_FALSE(runner.device_lost());
}

TEST_F(RunnerTest, TwoBackendsShareTensorsAndAreSampledInTurns) {
  Runner runner(machine_, {}, std::nullopt);
  std::vector<std::size_t> taken;
  CellRow inner;
  const CellRow outer = runner.run_with(item("right"), [&](const TakeSamples& a) {
    inner = runner.run_with(item("right"), [&](const TakeSamples& b) {
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
  const CellRow row = runner.run_with(item("tiring"), [](const TakeSamples&) {});
  EXPECT_EQ(row.status, Status::kIncorrect);
  EXPECT_EQ(row.check->after, std::optional<bool>(false));
}

TEST_F(RunnerTest, WhatAnotherBackendWroteIsNoOutput) {
  // The last run of `lazy` writes nothing: the other's right answer lies in the shared output.
  Runner runner(machine_, {}, std::nullopt);
  const CellRow row = runner.run_with(item("lazy"), [&](const TakeSamples&) {
    EXPECT_EQ(runner.run(item("right")).status, Status::kOk);
  });
  EXPECT_EQ(row.status, Status::kIncorrect);
}

TEST_F(RunnerTest, ABackendThatDoesNotPassIsNotSampled) {
  Runner runner(machine_, {}, std::nullopt);
  for (const char* backend : {"wrong", "refuses", "throws", "absent"}) {
    runner.run_with(item(backend), [&](const TakeSamples&) { FAIL() << backend; });
  }
}

TEST_F(RunnerTest, KeysTellCellsApart) {
  RunnerOptions options;
  const std::string key = row_key(item("right"), machine_, options);
  EXPECT_EQ(row_key(item("right"), machine_, options), key);
  EXPECT_NE(row_key(item("wrong"), machine_, options), key);
  options.seed = 2;
  EXPECT_NE(row_key(item("right"), machine_, options), key);
  options = {.timed = true};
  EXPECT_NE(row_key(item("right"), machine_, options), key);
}

}  // namespace

std::span<const BackendSlot<RowSum>> RowSum::backends() { return kSlots; }

}  // namespace attn
