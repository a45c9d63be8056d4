// Comparisons to JSON.
#include "harness/compare_row.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "harness/block_json.h"
#include "harness/runner.h"
#include "harness/seed.h"
#include "harness/sentinel.h"

namespace attn {
namespace {

std::string cache_name(const ArmOptions& options) { return options.cold ? "cold" : "hot"; }

Json median_or_null(const std::vector<double>& values) {
  return values.empty() ? Json(nullptr) : Json(std::llround(summarise(values).median));
}

Json interval(const Estimate& e) {
  if (!std::isfinite(e.half_width)) return nullptr;
  return {std::exp(e.log_ratio - e.half_width), std::exp(e.log_ratio + e.half_width)};
}

Json clock_columns(const ArmsMeasured& measured, const Decision& decision) {
  if (!decision.clock_ratio) return nullptr;
  const auto& processes = measured.gathered.processes;
  Json cycles = nullptr;
  if (decision.cycles)
    cycles = {{"ratio", std::exp(decision.cycles->log_ratio)},
              {"ci99", interval(*decision.cycles)}};
  return {{"a_mhz", median_or_null(clocks_of(processes, Arm::kA))},
          {"b_mhz", median_or_null(clocks_of(processes, Arm::kB))},
          {"cycles", cycles}};
}

Json runs_of(const std::vector<ProcessBlocks>& processes) {
  Json runs = Json::array();
  for (const ProcessBlocks& blocks : processes) {
    Json run = Json::array();
    for (const Block& block : blocks) run.push_back(to_json(block));
    runs.push_back(run);
  }
  return runs;
}

std::string repro_command(const Arms& arms, const Machine& machine, const CompareSession& session) {
  std::vector<std::string> flags = problem_flags(arms.a);
  for (std::string& flag : plugin_flags(arms.b)) flags.push_back(std::move(flag));
  return fmt::format("{} compare {} {} --op {} --level {} --cache {} --device {} {} --seed {}",
                     session.arms.call, arms.a.backend_id(), arms.b.backend_id(), arms.a.op->name(),
                     session.level.name, cache_name(session.arms), machine.gpu ? "cuda" : "cpu",
                     fmt::join(flags, " "), session.arms.seed);
}

}  // namespace

std::string compare_key(const Arms& arms, const Machine& machine, const CompareSession& session) {
  const RunnerOptions runner{.seed = session.arms.seed};
  return hex(fnv1a(fmt::format("{}|{}|{}|{}", row_key(arms.a, machine, runner),
                               row_key(arms.b, machine, runner), session.level.name,
                               cache_name(session.arms))));
}

Json compare_row(const Arms& arms,
                 const Machine& machine,
                 const CompareSession& session,
                 const ArmsMeasured& measured,
                 const Decision& decision,
                 bool control) {
  const RunnerOptions runner{.seed = session.arms.seed};
  const std::vector<ProcessBlocks>& processes = measured.gathered.processes;
  std::size_t blocks = 0;
  for (const ProcessBlocks& process : processes) blocks += process.size();
  const bool compared = blocks > 0;
  const bool passed = measured.status == Status::kOk || measured.status == Status::kUnchecked;
  const Estimate& e = decision.time;
  Json process_ratios = Json::array();
  for (const double m : e.process_means) process_ratios.push_back(std::exp(m));
  const Json problem = problem_columns(arms.a.problem->fields());
  return {{"type", "compare"},
          {"key", compare_key(arms, machine, session)},
          {"session", session.id},
          {"control", control},
          {"op", arms.a.op->name()},
          {"suite", arms.a.suite.empty() ? Json(nullptr) : Json(arms.a.suite)},
          {"a", row_key(arms.a, machine, runner)},
          {"b", row_key(arms.b, machine, runner)},
          {"backend_a", arms.a.backend_id()},
          {"backend_b", arms.b.backend_id()},
          {"shape", problem["shape"]},
          {"dtype", problem["dtype"]},
          {"options", problem["options"]},
          {"data", kInputFamilyNames[static_cast<std::size_t>(arms.a.family)]},
          {"level", session.level.name},
          {"cache", cache_name(session.arms)},
          {"status", name_of(measured.status)},
          {"reason", measured.reason   ? Json(*measured.reason)
                     : decision.reason ? Json(*decision.reason)
                                       : Json(nullptr)},
          {"processes", processes.size()},
          {"blocks", blocks},
          {"precise", measured.gathered.precise},
          {"median_a", median_or_null(samples_of(processes, Arm::kA))},
          {"median_b", median_or_null(samples_of(processes, Arm::kB))},
          {"ratio", compared ? Json(std::exp(e.log_ratio)) : Json(nullptr)},
          {"ci99", compared ? interval(e) : Json(nullptr)},
          {"p", compared ? Json(e.p) : Json(nullptr)},
          {"process_ratios", process_ratios},
          {"delta", session.delta},
          {"clock", clock_columns(measured, decision)},
          {"verdict", passed ? Json(name_of(decision.verdict)) : Json(nullptr)},
          {"flags", measured.flags},
          {"runs", runs_of(processes)},
          {"repro", repro_command(arms, machine, session)}};
}

Json session_row(const CompareSession& session,
                 const std::vector<double>& sentinel_ns,
                 const CompareSummary& summary) {
  Json sentinel = Json::array();
  for (const double ns : sentinel_ns) sentinel.push_back(std::llround(ns));
  Json mean = nullptr;
  Json worst = nullptr;
  if (summary.compared > 0) {
    Json interval = nullptr;
    if (summary.mean_interval) interval = {summary.mean_interval->low, summary.mean_interval->high};
    mean = {{"ratio", summary.mean_ratio}, {"ci99", interval}};
    worst = {{"key", summary.worst.key}, {"ratio", summary.worst.ratio}};
  }
  Json calibration = nullptr;
  if (const auto& found = session.found)
    calibration = {{"session", found->session},
                   {"cache", cache_name(session.arms)},
                   {"floor", found->floor},
                   {"cells", found->cells},
                   {"same", found->same}};
  return {{"type", "event"},
          {"event", "compare_session"},
          {"session", session.id},
          {"level", session.level.name},
          {"delta", session.delta},
          {"calibration", calibration},
          {"proven", summary.doubts.empty()},
          {"doubts", summary.doubts},
          {"sentinel", sentinel},
          {"sentinel_drift", drift_of(sentinel_ns)},
          {"compared", summary.compared},
          {"geometric_mean", mean},
          {"worst", worst},
          {"slower_share", summary.compared > 0 ? Json(summary.slower_share()) : Json(nullptr)},
          {"withdrawn", summary.withdrawn}};
}

}  // namespace attn
