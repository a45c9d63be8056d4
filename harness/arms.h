// Two arms of a comparison in a fresh process: the worker that holds them, and its other end.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/child.h"
#include "harness/environment.h"
#include "harness/gather.h"
#include "harness/plan.h"

namespace attn {

/// The same problem and data on the backends of arm A and arm B.
struct Arms {
  PlanItem a;
  PlanItem b;
};

struct ArmOptions {
  bool cold = true;  ///< caches flushed before every sample
  std::uint64_t seed = 1;
  double cell_limit_s = 10;        ///< RunnerOptions'
  double timeout_s = 300;          ///< for every answer of a worker
  SelfCommand self{};              ///< starts the program that serves arms
  std::string call = "attnbench";  ///< RunnerOptions'
};

/// The worker. Says when it has started, and touches neither memory nor kernels of the GPU before it is
/// told to begin; then verifies both arms over the same tensors, warms them up, measures a block for
/// every line on standard input, verifies again and ends with its input. Writes JSON lines to standard
/// output.
void serve_arms(const Arms& arms, const Machine& machine, const ArmOptions& options);

/// What several fresh workers measured. Where `status` is not OK or UNCHECKED, `reason` says which
/// arm failed and how, and there are no blocks.
struct ArmsMeasured {
  Status status = Status::kOk;
  std::optional<std::string> reason;
  Gathered gathered;
  double seconds = 0;      ///< that it took
  std::vector<Json> rows;  ///< the cell rows of A and of B, of the last worker that gave them
  std::set<std::string> flags;
};

/// Drives workers: as many as the level wants are started together, and work one after the other. What
/// one of them has found right, bit by bit, the next need not ask the oracle about; and where the clock
/// did not settle in one, the next waits for it no longer than a look at it takes.
ArmsMeasured measure_arms(const Arms& arms,
                          const Machine& machine,
                          const ArmOptions& options,
                          const Level& level,
                          const OutOfTime& out_of_time);

}  // namespace attn
