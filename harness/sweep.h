// A sweep over planned cells: resumes where an earlier run stopped, keeps to its time budget, writes
// every row at once, and sums up at the end.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/cell_worker.h"
#include "harness/cost_model.h"
#include "harness/plan.h"
#include "harness/progress.h"
#include "harness/runner.h"

namespace attn {

struct SweepOptions {
  RunnerOptions runner;
  std::string out;           ///< directory of the rows; empty: results/<device>/<UTC>_<sha7>
  double time_budget_s = 0;  ///< 0: none
  double timeout_s = 300;    ///< a cell that takes longer loses its process
  bool in_process = false;   ///< WorkerOptions'
  SelfCommand self{};        ///< starts the workers
  std::vector<std::string> argv;
};

/// Exit codes of the program.
enum ExitCode : int { kExitOk = 0, kExitIncorrect = 1, kExitUsage = 2 };

/// The word that makes a sweep's own command line serve its cells to it.
inline constexpr std::string_view kServeFlag = "--serve-cells";

class Sweep {
 public:
  /// Finds or makes the rows file and drops the cells that it already holds. Throws UsageError when
  /// the file cannot be read or written.
  Sweep(std::vector<PlanItem> plan, const Machine& machine, SweepOptions options);

  /// Cells that have no row yet.
  const std::vector<PlanItem>& remaining() const { return remaining_; }
  /// The row of one cell, run in a worker; empty when the budget is spent or no worker can be started,
  /// and for every later call.
  std::optional<Json> work_on(const PlanItem& item);
  /// Writes the row and reports it.
  void record(const PlanItem& item, const Json& row);
  /// Prints the summary on stdout and what is left on stderr; returns the exit code.
  int finish() const;

 private:
  struct Rest {
    double cells = 0;
    double flops = 0;
  };
  struct Outcome {
    std::string backend;
    std::string status;
    std::string reason;
    double nerr_max = 0;
  };
  static Outcome outcome_of(const Json& row);
  void open_rows();
  double seconds_spent() const;
  bool out_of_budget(double next) const;  // with so many seconds more
  bool on_host(const std::string& backend) const { return host_backends_.count(backend) > 0; }
  Rest cost_of(const PlanItem& item) const;
  double predicted(const std::string& backend, const Rest& rest) const;
  double predicted_rest() const;

  const Machine& machine_;
  SweepOptions options_;
  std::size_t planned_;
  bool suite_;
  std::vector<PlanItem> remaining_;
  std::map<std::string, Outcome> outcomes_;  // by row key
  std::unique_ptr<RowFile> rows_;
  CellWorkers workers_;
  std::unique_ptr<Progress> progress_;
  CostModel costs_[2] = {CostModel(0.02, CostModel::kDeviceFixedWork),
                         CostModel(0.02)};  // of a device, of the host
  std::map<std::string, Rest> rest_;        // cells not yet worked on, by backend
  std::set<std::string> host_backends_;     // those whose cells the runner limits
  std::chrono::steady_clock::time_point start_;
  bool worked_ = false;  // on a cell
  bool stopped_ = false;
  std::string lost_;  // why no worker can be started
};

/// "verify": every planned cell in turn. Returns the exit code.
int run_verify(std::vector<PlanItem> plan, const Machine& machine, const SweepOptions& options);

/// "--profile": verifies one cell of a GPU in this process and runs it once more, as a profiler sees
/// it; prints the profiler's command and writes no row. Throws UsageError for any other plan.
int run_profile(const std::vector<PlanItem>& plan, const Machine& machine, SweepOptions options);

/// "bench": the cells become Google Benchmark's, which drives them. `benchmark_flags` are the
/// --benchmark_* arguments. Returns the exit code.
int run_bench(std::vector<PlanItem> plan,
              const Machine& machine,
              const SweepOptions& options,
              std::vector<std::string> benchmark_flags);

}  // namespace attn
