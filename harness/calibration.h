// The A/A calibration of a machine: what a backend measured against itself seemed to differ by.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "harness/compare_summary.h"
#include "harness/environment.h"
#include "harness/row.h"

namespace attn {

/// What a session that only compared a backend with itself found.
struct Calibration {
  double floor = 0;       ///< the largest difference that it measured, 0.002: a fifth of a percent
  std::size_t cells = 0;  ///< compared
  std::size_t same = 0;   ///< of these, called SAME
  std::string session;    ///< whose rows hold it
};

/// From the cells of such a session; those that gave no ratio count for nothing.
Calibration calibration_of(const std::vector<ComparedCell>& cells, const std::string& session);

/// The newest calibration at the claim level, of a proven session on the device and driver of `run` (a
/// run line) with these caches, in rows files given from the oldest to the newest.
std::optional<Calibration> find_calibration(const Json& run,
                                            bool cold,
                                            const std::vector<std::string>& files);

/// The rows files under results/<device>, from the oldest to the newest.
std::vector<std::string> committed_rows(const Machine& machine);

}  // namespace attn
