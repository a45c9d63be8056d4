// One cell to one row: allocate, fill, poison, plan, run, verify, time. The only place that catches.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

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
  double sample_seconds = 0.5;  ///< spent on cold samples of a cell; hot samples get half of it
  double cell_limit_s = 10;     ///< predicted to take longer on a CPU: TIMEOUT without a run
};

/// Times `count` runs of a verified launch, with cold or hot caches.
using TakeSamples = std::function<gpu::Samples(bool cold, int count)>;

class Runner {
 public:
  Runner(const Machine& machine, RunnerOptions options, std::optional<Ceilings> ceilings)
      : machine_(machine),
        options_(options),
        ceilings_(ceilings),
        data_(machine, options.seed),
        run_cost_(0) {}

  /// Exactly one row, whatever happens.
  CellRow run(const PlanItem& item) { return run_with(item, {}); }
  /// As `run`; when the cell has passed and is warm, `use` samples it, and a last sample must leave
  /// the verified output. `use` may run another backend of the same case: both share the tensors.
  CellRow run_with(const PlanItem& item, const std::function<void(const TakeSamples&)>& use);
  /// A device error destroyed the GPU's context: nothing more can run in this process.
  bool device_lost() const { return device_lost_; }

 private:
  struct Cell;  // what the steps of one cell share

  CellRow describe(const PlanItem& item, const BackendInfo* info, const DeviceInfo& device) const;
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
  static double warm_up(const Cell& cell);
  void time(Cell& cell, CellRow& row);
  void check_again(Cell& cell, CellRow& row);
  SpeedOfLight speed_of_light(const PlanItem& item, double ns) const;

  const Machine& machine_;
  RunnerOptions options_;
  std::optional<Ceilings> ceilings_;
  CaseData data_;
  CostModel run_cost_;  // one run, by backend
  bool device_lost_ = false;
};

/// The cell's identity for resuming: equal keys mean equal cell, seed, mode, binary and device.
std::string row_key(const PlanItem& item, const Machine& machine, const RunnerOptions& options);

}  // namespace attn
