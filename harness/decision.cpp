// The decision rule.
#include "harness/decision.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "harness/inference.h"
#include "harness/statistics.h"

namespace attn {
namespace {

using LogRatios = std::vector<std::vector<double>>;

LogRatios time_ratios(const std::vector<ProcessBlocks>& processes) {
  LogRatios ratios;
  for (const ProcessBlocks& blocks : processes) ratios.push_back(pair_means(blocks, log_ratio));
  return ratios;
}

/// Cycles are time times clock. Every clock is known.
LogRatios cycle_ratios(const std::vector<ProcessBlocks>& processes) {
  LogRatios ratios;
  const auto cycles = [](const Block& block) {
    return log_ratio(block) + log_clock_ratio(block).value();
  };
  for (const ProcessBlocks& blocks : processes) ratios.push_back(pair_means(blocks, cycles));
  return ratios;
}

std::optional<double> clock_ratio(const std::vector<ProcessBlocks>& processes) {
  const std::vector<double> a = clocks_of(processes, Arm::kA);
  const std::vector<double> b = clocks_of(processes, Arm::kB);
  if (a.empty() || b.empty()) return std::nullopt;
  return summarise(b).median / summarise(a).median;
}

}  // namespace

Estimate estimate(const LogRatios& log_ratios) {
  std::vector<double> all;
  std::vector<double> means;
  for (const std::vector<double>& process : log_ratios) {
    all.insert(all.end(), process.begin(), process.end());
    means.push_back(mean(process));
  }
  const MeanTest blocks = test_mean(all, kConfidence);
  const MeanTest processes = means.size() > 1 ? test_mean(means, kConfidence) : blocks;
  const bool all_up = std::all_of(means.begin(), means.end(), [](double m) { return m > 0; });
  const bool all_down = std::all_of(means.begin(), means.end(), [](double m) { return m < 0; });
  return {.log_ratio = mean(means),
          .half_width = std::max(blocks.half_width, processes.half_width),
          .p = std::max(blocks.p, processes.p),
          .one_sign = all_up || all_down,
          .process_means = std::move(means)};
}

Verdict judge(const Estimate& e, double delta) {
  const double least = std::log1p(delta);
  const double size = std::abs(e.log_ratio);
  if (size >= least && size > e.half_width && e.one_sign)
    return e.log_ratio < 0 ? Verdict::kFaster : Verdict::kSlower;
  return size + e.half_width < least ? Verdict::kSame : Verdict::kUndecided;
}

bool enough(const std::vector<ProcessBlocks>& processes, const Level& level) {
  const auto full = std::count_if(processes.begin(), processes.end(), [&](const auto& blocks) {
    return blocks.size() >= level.blocks;
  });
  return static_cast<std::size_t>(full) >= level.processes;
}

Decision decide(const std::vector<ProcessBlocks>& processes, const Level& level, double delta) {
  const LogRatios times = time_ratios(processes);
  if (times.empty()) return {.reason = "no block was measured"};
  Decision decision{.time = estimate(times), .clock_ratio = clock_ratio(processes)};
  decision.verdict = judge(decision.time, delta);
  const auto undecided = [&](std::string reason) {
    decision.verdict = Verdict::kUndecided;
    decision.reason = std::move(reason);
  };
  if (decision.clock_ratio && std::abs(*decision.clock_ratio - 1) > kClockSpread) {
    decision.cycles = estimate(cycle_ratios(processes));
    if (judge(*decision.cycles, delta) != decision.verdict)
      undecided(fmt::format("B's clock was {:.3f} of A's, and times and cycles disagree",
                            *decision.clock_ratio));
  }
  if (!enough(processes, level))
    undecided(
        fmt::format("the time budget ended before {} x {} blocks", level.processes, level.blocks));
  return decision;
}

}  // namespace attn
