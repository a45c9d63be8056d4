// The mutation suite: wrong column reductions, each of which the checker must find INCORRECT on a
// small case of the `edge` suite, and what absolute tolerances would have made of them. The table
// is in reference/colreduce/README.md.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "harness/runner.h"
#include "harness/verify.h"
#include "tests/mutant_kernel.h"
#include "tests/mutants.h"
#include "tests/tile_mutants.h"

namespace attn {
namespace {

constexpr double kSmallFlops = 1.2e7;  // keeps all mutants together within half a minute

// Masks, types and reductions alternate with periods of 2 to 4 in the suite: 5 meets all of them.
constexpr std::size_t kStride = 5;

constexpr std::array kLoose = {1e-3, 1e-2};  // what other checkers allow for every element

/// What the verified run of a cell wrote and what it should have written, for other judges.
struct LastCell {
  std::vector<float> output;
  std::vector<double> expected;
};

LastCell& last_cell() {
  static LastCell cell;
  return cell;
}

/// The column reduction with the mutants as its backends.
struct Mutated : ColReduce {
  static Reference oracle(const Problem& p, const Tensors& t) {
    Reference reference = ColReduce::oracle(p, t);
    last_cell().expected = reference.value;
    return reference;
  }
  static std::span<const BackendSlot<Mutated>> backends();
};

using Problem = Mutated::Problem;
using Tensors = Mutated::Tensors;

Support supports_all(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::size_t workspace_bytes(const Problem& p, const DeviceInfo&) {
  return static_cast<std::size_t>(p.N) * sizeof(double);
}

std::size_t output_bytes(const Problem& p) {
  return static_cast<std::size_t>(p.B * p.H * p.N) * size_of(p.out_dtype);
}

void keep(std::vector<std::byte>& answer, const Problem& p, const Tensors& t) {
  const auto* bytes = static_cast<const std::byte*>(t.out.data);
  answer.assign(bytes, bytes + output_bytes(p));
}

/// Answers are kept for the life of the program, as by a cache that forgets to look at the data.
std::vector<std::byte>& answer_of_sizes(const Problem& p) {
  static std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, DType>,
                  std::vector<std::byte>>
      answers;
  return answers[{p.B * p.H, p.M, p.N, p.out_dtype}];
}

template <std::size_t kIndex>
Launch plan(const Problem& p, const Tensors& t, Workspace w, const DeviceInfo&) {
  constexpr Mutation kMutation = kMutants[kIndex].mutation;
  const auto calls = std::make_shared<int>(0);
  const auto first_answer = std::make_shared<std::vector<std::byte>>();
  if (kMutation == Mutation::kAnswerOfPlan) {
    MutantKernel(p, t, static_cast<double*>(w.data), kMutation).run();
    keep(*first_answer, p, t);
  }
  return {.enqueue = [=](Stream) {
    std::vector<std::byte>& stale =
        kMutation == Mutation::kAnswerOfSameSizes ? answer_of_sizes(p) : *first_answer;
    if (stale.empty()) {
      MutantKernel(p, t, static_cast<double*>(w.data), kMutation).run();
    } else {
      std::memcpy(t.out.data, stale.data(), stale.size());
    }
    if (kMutation == Mutation::kAnswerOfSameSizes || kMutation == Mutation::kAnswerOfFirstCall)
      keep(stale, p, t);
    if (kMutation == Mutation::kLastBitFlips && ++*calls % 2 == 0) {
      static_cast<std::byte*>(t.out.data)[0] ^= std::byte{1};  // the low byte stands first
    }
    std::vector<float>& output = last_cell().output;
    output.resize(static_cast<std::size_t>(p.B * p.H * p.N));
    for (std::size_t i = 0; i < output.size(); ++i)
      output[i] = load_element(t.out.data, p.out_dtype, static_cast<std::int64_t>(i));
  }};
}

template <std::size_t... kIndex>
std::vector<Backend<Mutated>> make_backends(std::index_sequence<kIndex...>) {
  return {{.info = {.id = kMutants[kIndex].name,
                    .summary = kMutants[kIndex].name,
                    .memory = MemorySpace::kHost,
                    .math = "fp64",
                    .numerics = kMutants[kIndex].numerics},
           .supports = supports_all,
           .workspace_bytes = workspace_bytes,
           .plan = plan<kIndex>}...};
}

std::span<const BackendSlot<Mutated>> Mutated::backends() {
  static const std::vector<Backend<Mutated>> kBackends =
      make_backends(std::make_index_sequence<kMutants.size()>());
  static const std::vector<BackendSlot<Mutated>> kSlots = slots_of(kBackends);
  return kSlots;
}

/// An answer held to one absolute tolerance.
class LooseReference final : public AnyReference {
 public:
  LooseReference(const std::vector<double>& expected, double allowed)
      : expected_(expected), allowed_(allowed) {}
  std::size_t size() const override { return expected_.size(); }
  double value(std::size_t i) const override { return expected_[i]; }
  double tolerance(std::size_t, NumericsClass) const override { return allowed_; }
  std::string_view computed_by() const override { return "test"; }

 private:
  const std::vector<double>& expected_;
  double allowed_;
};

/// What became of one mutant over the sampled cases.
struct Fate {
  int run = 0;
  int killed = 0;
  std::string first_killer = "nowhere";
  std::array<int, kLoose.size()> killed_loosely{};  ///< where the right kernel passes
};

/// The sampled cases of the `edge` suite, all `backends` of a case together.
template <class Op>
std::vector<PlanItem> sample(std::size_t backends) {
  const auto op = std::make_shared<const OperatorAdapter<Op>>();
  std::vector<PlanItem> plan;
  for (const AnySuite& suite : op->suites()) {
    if (suite.name != "edge") continue;
    for (std::size_t i = 0; i < suite.cases.size(); i += kStride) {
      const auto& [problem, family] = suite.cases[i];
      if (problem->work().mma_flops > kSmallFlops) continue;
      for (std::size_t backend = 0; backend < backends; ++backend)
        plan.push_back({op, problem, case_id(*problem), suite.name, family, backend});
    }
  }
  return plan;
}

/// Whether the last cell's output is right by each of the absolute tolerances.
std::array<bool, kLoose.size()> judge_loosely() {
  std::array<bool, kLoose.size()> passes{};
  for (std::size_t i = 0; i < kLoose.size(); ++i) {
    const LooseReference reference(last_cell().expected, kLoose[i]);
    passes[i] = compare_with_reference(last_cell().output.data(), DType::kF32, reference,
                                       NumericsClass::kFp32)
                    .ok;
  }
  return passes;
}

/// Runs a mutant on a case.
void run(Runner& runner, const PlanItem& item, Fate& fate) {
  const CellRow row = runner.run(item);
  const bool judged = row.status == Status::kOk || row.status == Status::kIncorrect;
  EXPECT_TRUE(judged) << item.name() << " " << name_of(row.status) << ": "
                      << row.reason.value_or("");
  ++fate.run;
  if (row.status == Status::kIncorrect && fate.killed++ == 0)
    fate.first_killer = fmt::format("`{}/{}`", item.case_id, row.family);
}

/// The right kernel, the first, passes everywhere, each mutant fails somewhere.
void expect_all_killed(const std::vector<Fate>& fates) {
  EXPECT_EQ(fates.front().killed, 0) << "the right kernel fails in " << fates.front().first_killer;
  EXPECT_GE(fates.front().run, 60) << "too few cases are small enough";
  for (std::size_t i = 1; i < fates.size(); ++i) EXPECT_GT(fates[i].killed, 0) << "mutant " << i;
}

std::vector<Fate> run_mutants() {
  const Machine machine = find_machine(/*want_gpu=*/false);
  Runner runner(machine, {}, std::nullopt);
  std::vector<Fate> fates(kMutants.size());
  std::array<bool, kLoose.size()> right_passes{};
  for (const PlanItem& item : sample<Mutated>(kMutants.size())) {
    Fate& fate = fates[item.backend];
    run(runner, item, fate);
    const auto passes = judge_loosely();
    if (item.backend == 0) right_passes = passes;  // first of its case
    for (std::size_t i = 0; i < kLoose.size(); ++i) {
      // Outputs of 16 bits are further off than this when they are large: nobody would then ask it.
      if (right_passes[i] && !passes[i]) ++fate.killed_loosely[i];
    }
  }
  return fates;
}

std::vector<std::string> table_of(const std::vector<Fate>& fates) {
  std::vector<std::string> table = {
      "| mutant | cases failed / run | first killing case | passes ±1e-3 | passes ±1e-2 |",
      "|---|---|---|---|---|"};
  for (std::size_t i = 0; i < fates.size(); ++i) {
    const Fate& fate = fates[i];
    const auto passes = [&](std::size_t loose) {
      const int killed = fate.killed_loosely[loose];
      return killed == 0 ? "yes" : fmt::format("no ({} / {})", killed, fate.run);
    };
    table.push_back(fmt::format("| {} | {} / {} | {} | {} | {} |", kMutants[i].name, fate.killed,
                                fate.run, fate.first_killer, passes(0), passes(1)));
  }
  return table;
}

/// The table under "What the checker kills" in the operator's README.
std::vector<std::string> published_table() {
  const auto root = std::filesystem::path(__FILE__).parent_path().parent_path();
  std::ifstream file(root / "reference/colreduce/README.md");
  EXPECT_TRUE(file.good()) << root;
  std::vector<std::string> table;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("## ")) inside = line == "## What the checker kills";
    if (inside && line.starts_with("|")) table.push_back(line);
  }
  return table;
}

/// A row without its numbers of failed cases: a case at the edge of its tolerance may go either way
/// with another libm.
std::string without_counts(const std::string& row) {
  return std::regex_replace(row, std::regex(R"(\d+ / )"), "/ ");
}

TEST(Mutation, EachIsListedOnce) {
  for (std::size_t i = 0; i < kMutants.size(); ++i)
    EXPECT_EQ(static_cast<std::size_t>(kMutants[i].mutation), i) << kMutants[i].name;
}

/// One test, as every test is a process of its own in CI and would run the mutants again.
TEST(Mutation, TheCheckerKillsWhatTheReadmeSays) {
  const std::vector<Fate> fates = run_mutants();
  const std::vector<std::string> table = table_of(fates);
  for (const std::string& row : table) fmt::print("{}\n", row);

  expect_all_killed(fates);

  const std::vector<std::string> published = published_table();
  ASSERT_EQ(published.size(), table.size()) << "the README's table has other rows";
  for (std::size_t i = 0; i < table.size(); ++i)
    EXPECT_EQ(without_counts(published[i]), without_counts(table[i]));
}

#if ATTN_WITH_CUDA
TEST(Mutation, KernelsThatTakeTilesWronglyAreKilledOnAGpu) {
  const Machine machine = find_machine(/*want_gpu=*/true);
  if (!machine.gpu) GTEST_SKIP() << "no GPU: " << machine.why_no_gpu;
  Runner runner(machine, {}, std::nullopt);
  std::vector<Fate> fates(kTileMutations.size());
  for (const PlanItem& item : sample<TileMutants>(kTileMutations.size()))
    run(runner, item, fates[item.backend]);
  for (std::size_t i = 0; i < fates.size(); ++i)
    fmt::print("| {} | {} / {} | {} |\n", TileMutants::backends()[i].id, fates[i].killed,
               fates[i].run, fates[i].first_killer);
  expect_all_killed(fates);
}
#endif

}  // namespace
}  // namespace attn
