// The rows of a comparison: one `compare` line a cell, and one `event` line a session.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/arms.h"
#include "harness/calibration.h"
#include "harness/compare_summary.h"
#include "harness/decision.h"
#include "harness/row.h"

namespace attn {

/// What all rows of one session share.
struct CompareSession {
  std::string id;  ///< the run record's
  Level level = kProvisional;
  ArmOptions arms{};
  double delta = kProvisional.delta;   ///< the level's or the A/A floor
  std::optional<Calibration> found{};  ///< the machine's floor, from this session or an earlier one
};

/// Equal keys mean equal cell, arms, level, caches, seed, binary and device.
std::string compare_key(const Arms& arms, const Machine& machine, const CompareSession& session);

/// The `compare` line. `control` marks a backend measured against itself.
Json compare_row(const Arms& arms,
                 const Machine& machine,
                 const CompareSession& session,
                 const ArmsMeasured& measured,
                 const Decision& decision,
                 bool control);

/// The `event` line that ends a session.
Json session_row(const CompareSession& session,
                 const std::vector<double>& sentinel_ns,
                 const CompareSummary& summary);

}  // namespace attn
