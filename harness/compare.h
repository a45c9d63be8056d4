// `attnbench compare`: two backends over a sweep, in blocks that only fresh processes measure.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "harness/arms.h"
#include "harness/compare_summary.h"
#include "harness/decision.h"
#include "harness/plan.h"

namespace attn {

struct CompareOptions {
  Level level = kProvisional;
  ArmOptions arms;
  std::string out;           ///< directory of the rows; empty: as `bench`
  double time_budget_s = 0;  ///< of the session; 0: none
  double cell_seconds =
      60;  ///< a cell that has its minimum and is not precise by then stays as it is
  bool calibrate =
      false;            ///< both arms are one backend: what the machine calls different, for later
  bool strict = false;  ///< undecided or noisy is an exit code of its own
  std::vector<std::string> argv;
};

/// Every cell of the plan, each once with backend A: compares it with backend B. Writes rows,
/// reports on stdout, returns the exit code.
int run_compare(std::vector<PlanItem> plan,
                std::size_t backend_b,
                const Machine& machine,
                const CompareOptions& options);

/// Two rows files without measuring: ratios of medians. Rows of one run each hold no blocks and no
/// second process, so every cell is UNDECIDED. UsageError when they are UNCOMPARABLE: machines or
/// drivers differ.
int compare_files(const std::string& path_a, const std::string& path_b, bool strict);

}  // namespace attn
