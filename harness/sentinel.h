// The sentinel: a fixed piece of arithmetic, timed at the start, the middle and the end of a session.
// When its time drifts, the machine has changed, and with it every comparison in between.
#pragma once

#include <vector>

#include "harness/environment.h"

namespace attn {

inline constexpr double kSentinelDrift = 0.02;  ///< more invalidates claims

/// Median time of the sentinel on the machine's main device, after a warm-up.
double sentinel_ns(const Machine& machine);

/// Largest over smallest time, less one; 0 for fewer than two.
double drift_of(const std::vector<double>& times_ns);

}  // namespace attn
