// Sweeps: resume, budget, rows, summary.
#include "harness/sweep.h"

#include <fmt/format.h>

#include <algorithm>

#include "harness/session.h"

namespace attn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string time_text(const CellRow& row) {
  if (!row.time) return row.reason.value_or("");
  const Summary& cold = row.time->cold;
  return fmt::format("{:.4f} ms [{:.4f}, {:.4f}]", cold.median * 1e-6, cold.p25 * 1e-6,
                     cold.p75 * 1e-6);
}

}  // namespace

Sweep::Sweep(std::vector<PlanItem> plan, const Machine& machine, SweepOptions options)
    : machine_(machine),
      options_(std::move(options)),
      planned_(plan.size()),
      suite_(!plan.front().suite.empty()),
      remaining_(std::move(plan)),
      cost_(0.02),
      start_(Clock::now()) {
  if (options_.out.empty()) options_.out = choose_directory(machine_);
  open_rows();
  for (const PlanItem& item : remaining_) {
    Rest& rest = rest_[std::string(item.backend_id())];
    rest.cells += 1;
    rest.flops += item.problem->work().mma_flops;
    const BackendInfo* info = item.op->backends()[item.backend].info;
    if (info && machine_.device_for(*info).space == MemorySpace::kHost)
      host_backends_.emplace(item.backend_id());
  }
  progress_ = std::make_unique<Progress>(remaining_.size());
}

/// Opens the rows file, takes over what it holds, and writes this run's record.
void Sweep::open_rows() {
  rows_ = std::make_unique<RowFile>(options_.out);
  std::map<std::string, Outcome> earlier;
  for (const Json& row : read_rows(rows_->path())) {
    if (row["type"] != "cell") continue;
    const Json& check = row["check"];
    const bool measured = check.is_object() && check["nerr_max"].is_number();
    earlier[row["key"]] = {row["backend"], row["status"],
                           row["reason"].is_string() ? row["reason"].get<std::string>() : "",
                           measured ? check["nerr_max"].get<double>() : 0};
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
    ceilings = machine_.gpu ? gpu::measure_ceilings() : host::measure_ceilings();
  if (!remaining_.empty())
    rows_->append(run_record(machine_, find_revision(), ceilings, without_directory(options_.argv),
                             options_.runner.seed));
  runner_ = std::make_unique<Runner>(machine_, options_.runner, ceilings);
}

bool Sweep::out_of_budget(const PlanItem& item) const {
  if (options_.time_budget_s <= 0) return false;
  const double next =
      predicted(std::string(item.backend_id()), {1, item.problem->work().mma_flops});
  return seconds_since(start_) + next > options_.time_budget_s;
}

/// Seconds for these cells; none on a CPU takes longer than the runner's limit for it.
double Sweep::predicted(const std::string& backend, const Rest& rest) const {
  const double seconds = cost_.predict(backend, rest.flops, rest.cells);
  const double limit = rest.cells * options_.runner.cell_limit_s;
  return host_backends_.count(backend) > 0 ? std::min(seconds, limit) : seconds;
}

double Sweep::predicted_rest() const {
  double seconds = 0;
  for (const auto& [backend, rest] : rest_) seconds += predicted(backend, rest);
  return seconds;
}

std::optional<CellRow> Sweep::work_on(const PlanItem& item) {
  stopped_ = stopped_ || runner_->device_lost() || out_of_budget(item);
  if (stopped_) return std::nullopt;
  const Clock::time_point start = Clock::now();
  CellRow row = runner_->run(item);
  const double flops = item.problem->work().mma_flops;
  const bool ran = row.memory.has_value();
  if (ran) cost_.observe(row.backend, flops, seconds_since(start));
  rest_[row.backend].cells -= 1;
  rest_[row.backend].flops -= flops;
  return row;
}

void Sweep::record(const PlanItem& item, const CellRow& row) {
  rows_->append(to_json(row));
  outcomes_[row.key] = {row.backend, std::string(name_of(row.status)), row.reason.value_or(""),
                        row.check ? row.check->nerr_max : 0};
  progress_->step(predicted_rest(), fmt::format("{} {} {} {}", row.backend, item.case_id,
                                                name_of(row.status), time_text(row)));
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
  if (runner_->device_lost())
    fmt::print(stderr, "the GPU's context was lost; run the same command again for the rest\n");
  const std::size_t left = planned_ - outcomes_.size();
  if (left > 0) {
    fmt::print(stderr, "{} of {} cells are left; the same command continues: {}\n", left, planned_,
               command_text(options_.argv));
  }
  if (wrong) return kExitIncorrect;
  if (refused_all && !suite_) {
    fmt::print(stderr, "attnbench: nothing ran: {}\n", refusal);
    return kExitUsage;
  }
  return kExitOk;
}

int run_verify(std::vector<PlanItem> plan, const Machine& machine, const SweepOptions& options) {
  Sweep sweep(std::move(plan), machine, options);
  for (const PlanItem& item : sweep.remaining()) {
    const std::optional<CellRow> row = sweep.work_on(item);
    if (!row) break;
    sweep.record(item, *row);
  }
  return sweep.finish();
}

}  // namespace attn
