// Sweeps: resume, budget, rows, summary.
#include "harness/sweep.h"

#include <fmt/format.h>

#include <algorithm>

#include "harness/session.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string reason_of(const Json& row) {
  return row["reason"].is_string() ? row["reason"].get<std::string>() : "";
}

std::string time_text(const Json& row) {
  if (!row["time"].is_object()) return reason_of(row);
  const Json& cold = row["time"]["cold"];
  const auto ms = [&](const char* quantile) { return cold[quantile].get<double>() * 1e-6; };
  return fmt::format("{:.4f} ms [{:.4f}, {:.4f}]", ms("median"), ms("p25"), ms("p75"));
}

/// The same program with the same words.
WorkerOptions worker_of(const SweepOptions& options) {
  WorkerOptions worker{.program = options.self.program,
                       .arguments = options.self.words,
                       .in_process = options.in_process};
  if (!options.argv.empty())
    worker.arguments.insert(worker.arguments.end(), options.argv.begin() + 1, options.argv.end());
  worker.arguments.emplace_back(kServeFlag);
  return worker;
}

}  // namespace

Sweep::Sweep(std::vector<PlanItem> plan, const Machine& machine, SweepOptions options)
    : machine_(machine),
      options_(std::move(options)),
      planned_(plan.size()),
      suite_(!plan.front().suite.empty()),
      remaining_(std::move(plan)),
      workers_(machine, options_.runner, worker_of(options_)),
      start_(Clock::now()) {
  if (options_.out.empty()) options_.out = choose_directory(machine_);
  open_rows();
  for (const PlanItem& item : remaining_) {
    const Rest cost = cost_of(item);
    Rest& rest = rest_[std::string(item.backend_id())];
    rest.cells += cost.cells;
    rest.flops += cost.flops;
    const BackendInfo* info = item.op->backends()[item.backend].info;
    if (info && machine_.device_for(*info).space == MemorySpace::kHost)
      host_backends_.emplace(item.backend_id());
  }
  progress_ = std::make_unique<Progress>(remaining_.size());
}

Sweep::Outcome Sweep::outcome_of(const Json& row) {
  const Json& check = row["check"];
  const bool measured = check.is_object() && check["nerr_max"].is_number();
  return {row["backend"], row["status"], reason_of(row),
          measured ? check["nerr_max"].get<double>() : 0};
}

double Sweep::seconds_spent() const { return seconds_since(start_); }

/// Opens the rows file, takes over what it holds, and writes this run's record.
void Sweep::open_rows() {
  rows_ = std::make_unique<RowFile>(options_.out);
  std::map<std::string, Outcome> earlier;
  for (const Json& row : read_rows(rows_->path())) {
    if (row["type"] == "cell") earlier[row["key"]] = outcome_of(row);
  }
  std::vector<PlanItem> left;
  for (PlanItem& item : remaining_) {
    const auto it = earlier.find(row_key(item, machine_, options_.runner));
    if (it == earlier.end()) {
      left.push_back(std::move(item));
    } else {
      outcomes_.insert(*it);
    }
  }
  remaining_ = std::move(left);
  if (!outcomes_.empty())
    fmt::print(stderr, "resuming {}: {} of {} cells are there\n", rows_->path(), outcomes_.size(),
               planned_);
  std::optional<Ceilings> ceilings;
  if (options_.runner.timed && !remaining_.empty())
    ceilings = workers_.measure_ceilings(options_.timeout_s);
  if (!remaining_.empty())
    rows_->append(run_record(machine_, find_revision(), ceilings, without_directory(options_.argv),
                             options_.runner.seed));
}

bool Sweep::out_of_budget(double next) const {
  return options_.time_budget_s > 0 && seconds_spent() + next > options_.time_budget_s;
}

/// What a cell is predicted by: a backend refuses in no time.
Sweep::Rest Sweep::cost_of(const PlanItem& item) const {
  if (!backend_takes(item, machine_)) return {};
  return {1, item.problem->work().mma_flops};
}

/// Seconds for these cells; none on a CPU takes longer than the runner's limit for it.
double Sweep::predicted(const std::string& backend, const Rest& rest) const {
  const bool host = on_host(backend);
  const double seconds = costs_[host ? 1 : 0].predict(backend, rest.flops, rest.cells);
  return host ? std::min(seconds, rest.cells * options_.runner.cell_limit_s) : seconds;
}

double Sweep::predicted_rest() const {
  double seconds = 0;
  for (const auto& [backend, rest] : rest_) seconds += predicted(backend, rest);
  return seconds;
}

std::optional<Json> Sweep::work_on(const PlanItem& item) {
  constexpr double kLeastSeconds = 10;  // a cell that hangs must not outlast the budget by more
  if (stopped_) return std::nullopt;
  const std::string backend(item.backend_id());
  const Rest cost = cost_of(item);
  stopped_ = out_of_budget(predicted(backend, cost));
  if (stopped_) return std::nullopt;
  double timeout_s = options_.timeout_s;
  if (options_.time_budget_s > 0)
    timeout_s =
        std::min(timeout_s, std::max(options_.time_budget_s - seconds_spent(), kLeastSeconds));
  const Clock::time_point start = Clock::now();
  Json row;
  try {
    row = workers_.run(item, timeout_s);
  } catch (const ProcessFailure& failure) {
    lost_ = failure.what();
    stopped_ = true;
    return std::nullopt;
  }
  // Ended by the budget: the next run gives the cell its full time. One that has taken a whole run
  // keeps its TIMEOUT, else no run would ever get past it.
  if (seconds_since(start) >= timeout_s && timeout_s < options_.timeout_s && worked_) {
    stopped_ = true;
    return std::nullopt;
  }
  worked_ = true;
  const bool ran = row["mem"].is_object();
  if (ran) costs_[on_host(backend) ? 1 : 0].observe(backend, cost.flops, seconds_since(start));
  rest_[backend].cells -= cost.cells;
  rest_[backend].flops -= cost.flops;
  return row;
}

void Sweep::record(const PlanItem& item, const Json& row) {
  rows_->append(row);
  const Outcome& outcome = outcomes_[row["key"]] = outcome_of(row);
  progress_->step(predicted_rest(), fmt::format("{} {} {} {}", outcome.backend, item.case_id,
                                                outcome.status, time_text(row)));
}

int Sweep::finish() const {
  std::map<std::string, std::map<std::string, int>> counts;
  std::map<std::string, double> worst;
  std::string refusal;
  bool wrong = false;
  bool refused_all = !outcomes_.empty();
  for (const auto& [key, outcome] : outcomes_) {
    ++counts[outcome.backend][outcome.status];
    double& nerr = worst[outcome.backend];
    nerr = std::max(nerr, outcome.nerr_max);
    wrong = wrong || outcome.status == "INCORRECT" || outcome.status == "CRASH";
    refused_all = refused_all && outcome.status == "UNSUPPORTED";
    refusal = outcome.reason;
  }
  for (const auto& [backend, statuses] : counts) {
    fmt::print("{:16}", backend);
    for (const auto& [status, count] : statuses) fmt::print(" {} {}", count, status);
    fmt::print("; largest error / tolerance {:.3f}\n", worst[backend]);
  }
  fmt::print("rows: {}\n", rows_->path());
  if (!lost_.empty()) fmt::print(stderr, "attnbench: no cell can be run: {}\n", lost_);
  const std::size_t left = planned_ - outcomes_.size();
  if (left > 0) {
    fmt::print(stderr, "{} of {} cells are left; the same command continues: {}\n", left, planned_,
               command_text(options_.argv));
  }
  if (wrong || !lost_.empty()) return kExitIncorrect;
  if (refused_all && !suite_) {
    fmt::print(stderr, "attnbench: nothing ran: {}\n", refusal);
    return kExitUsage;
  }
  return kExitOk;
}

int run_profile(const std::vector<PlanItem>& plan, const Machine& machine, SweepOptions options) {
  if (plan.size() != 1)
    throw UsageError(fmt::format("--profile takes one cell, not {}", plan.size()));
  const BackendInfo* info = plan[0].op->backends()[plan[0].backend].info;
  if (!info || machine.device_for(*info).space == MemorySpace::kHost)
    throw UsageError("--profile needs a backend on a GPU");
  options.runner.profile = true;
  const CellRow row = Runner(machine, options.runner, std::nullopt).run(plan[0]);
  fmt::print("{} {} {}\n", plan[0].name(), name_of(row.status), row.reason.value_or(""));
  fmt::print("ncu --profile-from-start off --set full {}\n", command_text(options.argv));
  return row.status == Status::kOk ? kExitOk : kExitIncorrect;
}

int run_verify(std::vector<PlanItem> plan, const Machine& machine, const SweepOptions& options) {
  Sweep sweep(std::move(plan), machine, options);
  for (const PlanItem& item : sweep.remaining()) {
    const std::optional<Json> row = sweep.work_on(item);
    if (!row) break;
    sweep.record(item, *row);
  }
  return sweep.finish();
}

}  // namespace attn
