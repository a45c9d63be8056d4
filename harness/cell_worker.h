// Cells in a process of their own: a backend that hangs, aborts or loses the GPU ends its process and
// not the sweep. One worker serves many cells; it is replaced only after trouble.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "harness/child.h"
#include "harness/plan.h"
#include "harness/row.h"
#include "harness/runner.h"

namespace attn {

/// The worker: answers requests on standard input until it is closed. It has the plan that the cells'
/// names refer to.
void serve_cells(const std::vector<PlanItem>& plan,
                 const Machine& machine,
                 const RunnerOptions& options);

struct WorkerOptions {
  std::string program = "/proc/self/exe";
  std::vector<std::string> arguments{};  ///< make `program` serve the plan
  bool in_process = false;               ///< no worker: for debuggers, profilers and sanitizers
};

/// The other end. Throws ProcessFailure when no worker can be started on this machine's device.
class CellWorkers {
 public:
  CellWorkers(const Machine& machine, RunnerOptions runner, WorkerOptions options);

  /// Of the main device; the rows of later cells refer to them.
  const Ceilings& measure_ceilings(double timeout_s);
  /// The cell's row, whatever its backend does; TIMEOUT after `timeout_s`. A cell for which a used
  /// worker has no memory gets a second try in a fresh one: an earlier cell may have kept it.
  Json run(const PlanItem& item, double timeout_s);

 private:
  Json ask(const Json& request, double timeout_s);
  void start();
  Json attempt(const PlanItem& item, double timeout_s);

  const Machine& machine_;
  RunnerOptions runner_;
  WorkerOptions options_;
  std::optional<Ceilings> ceilings_;
  std::unique_ptr<Runner> local_;  // in_process
  std::unique_ptr<Child> worker_;
  bool used_ = false;  // the worker has run a cell
};

}  // namespace attn
