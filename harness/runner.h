// One cell to one row: allocate, fill, poison, plan, run, verify, time. The only place that catches.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "harness/case_data.h"
#include "harness/ceilings.h"
#include "harness/cost_model.h"
#include "harness/environment.h"
#include "harness/plan.h"
#include "harness/row.h"

namespace attn {

struct RunnerOptions {
  bool timed = false;  ///< bench rather than verify
  std::uint64_t seed = 1;
  double sample_seconds = 0.5;     ///< spent on cold samples of a cell; hot samples get half of it
  double cell_limit_s = 10;        ///< predicted to take longer on a CPU: TIMEOUT without a run
  bool profile = false;            ///< after it has passed, one run for a profiler to see
  bool graph = false;              ///< also capture the launch and time its replay
  std::string call = "attnbench";  ///< how a row's `repro` calls the program
};

/// An output that has passed: what bits stand for it, and what the comparison with the oracle found.
struct Verified {
  std::uint64_t hash = 0;  ///< of inputs and outputs
  Check check;
};
using VerifiedCells = std::map<std::string, Verified>;  ///< by PlanItem::name()

/// Times `count` runs of a verified launch, with cold or hot caches.
using TakeSamples = std::function<gpu::Samples(bool cold, int count)>;

/// Whether the item's backend takes its problem on this machine.
Support backend_takes(const PlanItem& item, const Machine& machine);

class Runner {
 public:
  Runner(const Machine& machine, const RunnerOptions& options, std::optional<Ceilings> ceilings)
      : machine_(machine),
        options_(options),
        ceilings_(ceilings),
        data_(machine, options.seed),
        run_cost_(0) {}

  /// Exactly one row, whatever happens.
  CellRow run(const PlanItem& item) { return run_with(item, {}); }
  /// As `run`; when the cell has passed, `use` warms it up and samples it, and a last sample must
  /// leave the verified output. `use` may run another backend of the same case: both share the tensors.
  CellRow run_with(const PlanItem& item, const std::function<void(const TakeSamples&)>& use);
  /// A backend threw or was wrong: it may have left this process, its memory or its GPU context in
  /// any state, and another process should run the next cell.
  bool tainted() const { return tainted_; }
  /// Takes over what other processes found of these cells: the same bits from the same inputs have passed
  /// already, and the oracle is not asked again. Every other check is made.
  void trust(VerifiedCells verified) { verified_ = std::move(verified); }
  /// What has passed so far, by this or by those.
  const VerifiedCells& verified() const { return verified_; }

 private:
  struct Cell;  // what the steps of one cell share

  void fail(CellRow& row, Status status, const std::string& reason);
  void attempt(const PlanItem& item,
               CellRow& row,
               const std::function<void(const TakeSamples&)>& use);
  bool fits(const PlanItem& item,
            const DeviceInfo& device,
            std::size_t workspace,
            bool sampled,
            CellRow& row);
  static void plan(Cell& cell);
  void verify(Cell& cell, CellRow& row);
  static gpu::Samples sample(const Cell& cell, bool cold, int count);
  static void run_afresh(const Cell& cell);
  static double warm_up(const Cell& cell, CellRow& row);
  void time(Cell& cell, CellRow& row);
  void time_graph(Cell& cell, CellRow& row, int count);
  bool leaves_verified_output(Cell& cell);
  void check_again(Cell& cell, CellRow& row);
  SpeedOfLight speed_of_light(const PlanItem& item, double ns) const;

  const Machine& machine_;
  RunnerOptions options_;
  std::optional<Ceilings> ceilings_;
  CaseData data_;
  CostModel run_cost_;  // one run, by backend
  VerifiedCells verified_;
  std::optional<Nvml> nvml_;  // opened for the first timed cell of a GPU
  bool tainted_ = false;
};

/// The row of a cell that has not run: what was asked for, status OK.
CellRow describe_cell(const PlanItem& item, const Machine& machine, const RunnerOptions& options);

/// The cell's identity for resuming: equal keys mean equal cell, seed, mode, binary,
/// plugin and device.
std::string row_key(const PlanItem& item, const Machine& machine, const RunnerOptions& options);

}  // namespace attn
