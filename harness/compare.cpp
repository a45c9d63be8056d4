// The session: resume, control, cells, sentinel, rows, summary.
#include "harness/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>

#include "harness/calibration.h"
#include "harness/ceilings.h"
#include "harness/compare_cost.h"
#include "harness/compare_row.h"
#include "harness/progress.h"
#include "harness/runner.h"
#include "harness/sentinel.h"
#include "harness/session.h"

namespace attn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What a cell's time grows with: operators without products move bytes. On the machines at hand a byte
/// takes about as long as 200 flops.
double amount_of(const Arms& arms) {
  const Work work = arms.a.problem->work();
  return work.mma_flops + 200 * work.bytes;
}

class CompareSweep {
 public:
  CompareSweep(std::vector<Arms> cells, const Machine& machine, const CompareOptions& options)
      : cells_(std::move(cells)), machine_(machine), options_(options), start_(Clock::now()) {
    session_.level = options.level;
    session_.arms = options.arms;
    session_.delta = options.level.delta;
    if (options_.out.empty()) directory_ = choose_directory(machine);
  }

  int run();

 private:
  void open_rows();
  std::vector<Arms> remaining() const;
  ComparedCell compare(const Arms& arms, bool control);
  ComparedCell skip(const Arms& arms, double needed_s);
  double seconds_needed(const Arms& arms) const;
  void take_delta(const Json& run);
  void judge_calibration();
  void run_control(const std::vector<Arms>& left);
  /// Of the session; the rest of the budget is for the block in flight and the last sentinel.
  double seconds_left() const {
    constexpr double kShare = 0.95;
    if (options_.time_budget_s <= 0) return std::numeric_limits<double>::infinity();
    return kShare * options_.time_budget_s - seconds_since(start_);
  }
  bool complete(const Json& row) const;
  void finish(const CompareSummary& summary, std::size_t undone) const;

  std::vector<Arms> cells_;
  const Machine& machine_;
  const CompareOptions& options_;
  std::string directory_ = options_.out;
  Clock::time_point start_;
  CompareSession session_;
  std::unique_ptr<RowFile> rows_;
  std::map<std::string, ComparedCell> done_;  // by key
  std::vector<double> sentinel_;
  CompareCost cost_{options_.level};
  double null_kernel_ns_ = 0;  // 0: not measured
  std::vector<std::string> doubts_;
};

/// An arm failed, or the level's minimum of blocks is there; else the time had been spent.
bool CompareSweep::complete(const Json& row) const {
  return !row.value("verdict", Json()).is_string() ||
         row.value("blocks", std::size_t{0}) >= options_.level.processes * options_.level.blocks;
}

/// Opens the rows file and takes over what proven sessions of it compared.
void CompareSweep::open_rows() {
  rows_ = std::make_unique<RowFile>(directory_);
  if (options_.calibrate) return;  // its cells are controls, which are measured anew every time
  const std::vector<Json> earlier = read_rows(rows_->path());
  std::set<std::string> proven;
  for (const Json& row : earlier) {
    if (row["type"] == "event" && row.value("proven", false))
      proven.insert(row.value("session", ""));
  }
  std::map<std::string, ComparedCell> found;
  for (const Json& row : earlier) {
    if (row["type"] == "compare" && !row.value("control", true) && complete(row) &&
        proven.count(row.value("session", "")) > 0) {
      ComparedCell cell = compared_cell(row);
      cell.earlier = true;
      found[cell.key] = std::move(cell);
    }
  }
  for (const Arms& arms : cells_) {
    const auto it = found.find(compare_key(arms, machine_, session_));
    if (it != found.end()) done_.insert(*it);
  }
  if (!done_.empty())
    fmt::print(stderr, "resuming {}: {} of {} cells are there\n", rows_->path(), done_.size(),
               cells_.size());
}

std::vector<Arms> CompareSweep::remaining() const {
  std::vector<Arms> left;
  for (const Arms& arms : cells_) {
    if (done_.count(compare_key(arms, machine_, session_)) == 0) left.push_back(arms);
  }
  return left;
}

/// Measures one cell and writes its rows.
ComparedCell CompareSweep::compare(const Arms& arms, bool control) {
  const Clock::time_point start = Clock::now();
  ArmsMeasured measured =
      measure_arms(arms, machine_, options_.arms, options_.level, [&](bool enough) {
        return seconds_left() < 0 || (enough && seconds_since(start) > options_.cell_seconds);
      });
  cost_.observe(amount_of(arms), measured.gathered.processes, measured.seconds);
  Decision decision = decide(measured.gathered.processes, options_.level, session_.delta);
  if (measured.status == Status::kUnchecked && options_.level.name == kClaim.name) {
    decision.verdict = Verdict::kUndecided;
    decision.reason = "no claim without an oracle that reaches the cell";
  }
  if (measured.flags.count(std::string(kHardwareSlowdown)) > 0) {
    decision.verdict = Verdict::kUndecided;
    decision.reason = "the hardware slowed its clock down";
  }
  for (const Arm arm : {Arm::kA, Arm::kB}) {
    const std::vector<double> ns = samples_of(measured.gathered.processes, arm);
    if (!ns.empty() && summarise(ns).median < 10 * null_kernel_ns_)
      measured.flags.insert("floor_limited");
  }
  if (!control && !measured.rows.empty()) {
    rows_->append(measured.rows[0]);
    if (arms.a.backend != arms.b.backend) rows_->append(measured.rows[1]);
  }
  if (!is_random(arms.a.family)) measured.flags.insert("not_comparable");
  const Json row = compare_row(arms, machine_, session_, measured, decision, control);
  rows_->append(row);
  return compared_cell(row);
}

double CompareSweep::seconds_needed(const Arms& arms) const {
  return cost_.predict(amount_of(arms));
}

/// The row of a cell whose minimum the budget does not reach: a part of it would decide nothing.
ComparedCell CompareSweep::skip(const Arms& arms, double needed_s) {
  const Decision decision{
      .reason =
          fmt::format("skipped: time budget: its minimum takes about {:.0f} s, {:.0f} s are left",
                      needed_s, std::max(0.0, seconds_left()))};
  const Json row = compare_row(arms, machine_, session_, {}, decision, options_.calibrate);
  rows_->append(row);
  return compared_cell(row);
}

/// From the machine's last calibration, where there is one.
void CompareSweep::take_delta(const Json& run) {
  std::vector<std::string> files = committed_rows(machine_);
  files.push_back(rows_->path());
  session_.found = find_calibration(run, options_.arms.cold, files);
  if (!session_.found) return;
  session_.delta = std::max(session_.delta, session_.found->floor);
  fmt::print(stderr, "calibrated by {}: {} of {} cells SAME, delta {:.2f} %\n",
             session_.found->session, session_.found->same, session_.found->cells,
             100 * session_.delta);
}

/// A against itself, on the cell of median work that A takes: sets delta, or raises a doubt.
void CompareSweep::run_control(const std::vector<Arms>& left) {
  std::vector<Arms> candidates;
  for (const Arms& arms : left) {
    if (backend_takes(arms.a, machine_)) candidates.push_back({arms.a, arms.a});
  }
  if (candidates.empty()) return;
  const auto middle = candidates.begin() + static_cast<std::ptrdiff_t>(candidates.size() / 2);
  std::nth_element(candidates.begin(), middle, candidates.end(),
                   [](const Arms& x, const Arms& y) { return amount_of(x) < amount_of(y); });
  const ComparedCell control = compare(*middle, /*control=*/true);
  const ControlOutcome outcome = judge_control(control, session_.delta);
  session_.delta = outcome.delta;
  if (outcome.doubt) doubts_.push_back(*outcome.doubt);
  fmt::print(stderr, "A/A control {:.4f} {}, delta {:.2f} %\n", control.ratio,
             name_of(control.verdict), 100 * session_.delta);
}

/// Every cell is a control. What they show is the floor of later sessions, unless one is a doubt.
void CompareSweep::judge_calibration() {
  std::vector<ComparedCell> cells;
  for (const auto& [key, cell] : done_) {
    cells.push_back(cell);
    const ControlOutcome outcome = judge_control(cell, session_.delta);
    if (outcome.doubt) doubts_.push_back(*outcome.doubt);
  }
  session_.found = calibration_of(cells, session_.id);
}

void CompareSweep::finish(const CompareSummary& summary, std::size_t undone) const {
  fmt::print("A {}, B {}, {}, {} caches; B/A is the ratio of times\n", cells_[0].a.backend_id(),
             cells_[0].b.backend_id(), options_.level.name, options_.arms.cold ? "cold" : "hot");
  fmt::print("{}delta {:.2f} %, sentinel drift {:.2f} %\nrows: {}\n", summary_text(summary),
             100 * session_.delta, 100 * drift_of(sentinel_), rows_->path());
  if (undone > 0)
    fmt::print(stderr, "{} of {} cells are left; the same command continues: {}\n", undone,
               cells_.size(), command_text(options_.argv));
}

int CompareSweep::run() {
  open_rows();
  const std::vector<Arms> left = remaining();
  std::size_t worked_on = 0;
  if (!left.empty()) {
    std::optional<Ceilings> ceilings;
    if (machine_.gpu) ceilings = gpu::measure_ceilings();
    if (ceilings) null_kernel_ns_ = ceilings->null_kernel_ns;
    const Json run = run_record(machine_, find_revision(), ceilings,
                                without_directory(options_.argv), options_.arms.seed);
    session_.id = run["run_id"];
    rows_->append(run);
    sentinel_.push_back(sentinel_ns(machine_));
    if (!options_.calibrate) {
      take_delta(run);
      run_control(left);
    }
    Progress progress(left.size());
    const Clock::time_point start = Clock::now();
    for (const Arms& arms : left) {
      if (const double needed_s = seconds_needed(arms); needed_s > seconds_left()) {
        const ComparedCell cell = skip(arms, needed_s);
        done_[cell.key] = cell;
        continue;
      }
      if (worked_on == left.size() / 2) sentinel_.push_back(sentinel_ns(machine_));
      const ComparedCell cell = compare(arms, options_.calibrate);
      done_[cell.key] = cell;
      ++worked_on;
      const auto undone = static_cast<double>(left.size() - worked_on);
      progress.step(
          seconds_since(start) / static_cast<double>(worked_on) * undone,
          fmt::format("{} {} {:.4f}", cell.name,
                      cell.compared() ? name_of(cell.verdict) : name_of(cell.status), cell.ratio));
    }
    sentinel_.push_back(sentinel_ns(machine_));
    if (options_.calibrate) judge_calibration();
    if (const auto doubt = sentinel_doubt(sentinel_, options_.level)) doubts_.push_back(*doubt);
  }
  std::vector<ComparedCell> cells;
  for (const Arms& arms : cells_) {
    const auto it = done_.find(compare_key(arms, machine_, session_));
    if (it != done_.end()) cells.push_back(it->second);
  }
  const CompareSummary summary = summarise_cells(std::move(cells), doubts_);
  if (!left.empty()) rows_->append(session_row(session_, sentinel_, summary));
  finish(summary, left.size() - worked_on);
  const CompareExit code = exit_code(summary, options_.strict);
  if (code == kNothingCompared)
    fmt::print(stderr, "attnbench: nothing was compared: {}\n",
               summary.cells.empty() ? "the time budget was spent"
                                     : summary.cells.back().reason.value_or("no cell ran"));
  return code;
}

}  // namespace

int run_compare(std::vector<PlanItem> plan,
                std::size_t backend_b,
                const Machine& machine,
                const CompareOptions& options) {
  std::vector<Arms> cells;
  for (PlanItem& item : plan) {
    PlanItem b = item;
    b.backend = backend_b;
    cells.push_back({std::move(item), std::move(b)});
  }
  return CompareSweep(std::move(cells), machine, options).run();
}

}  // namespace attn
