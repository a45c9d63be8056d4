// Backends of the toy operator that are broken on purpose, for the tests of runner and workers.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "harness/plan.h"

namespace attn {

/// The cell of a small problem on the backend called `id`.
PlanItem toy_item(std::string_view id);

/// Every backend's cell, in the order of their list.
std::vector<PlanItem> toy_plan();

/// Of the backend "slow_start": how long its plan takes, and the first call of what it planned.
inline constexpr double kSlowPlanSeconds = 0.02;
inline constexpr double kSlowFirstCallSeconds = 0.3;

/// The word that makes the test program a worker for toy_plan().
inline constexpr std::string_view kServeToyPlan = "--serve-toy-plan";

}  // namespace attn
