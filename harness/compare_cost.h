// How long the minimum of a comparison will take, from the comparisons made so far.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "harness/decision.h"

namespace attn {

/// Predicts the level's minimum of one cell: processes that start, verify and warm up, which costs about
/// the same everywhere, and samples, whose time grows with the work.
class CompareCost {
 public:
  explicit CompareCost(const Level& level) : level_(level) {}

  /// A cell of that much work took `seconds` for `gathered`.
  void observe(double work, const std::vector<ProcessBlocks>& gathered, double seconds) {
    std::vector<double> ns = samples_of(gathered, Arm::kA);
    const std::vector<double> of_b = samples_of(gathered, Arm::kB);
    ns.insert(ns.end(), of_b.begin(), of_b.end());
    if (ns.empty()) return;
    double sampled = 0;
    for (const double one : ns) sampled += 1e-9 * one;
    const double besides = std::max(0.0, seconds - sampled) / static_cast<double>(gathered.size());
    process_s_ = std::max(process_s_, besides);
    seen_.push_back({std::max(1.0, work), sampled / static_cast<double>(ns.size())});
  }

  /// Seconds for the minimum; 0 before anything was observed.
  double predict(double work) const {
    if (seen_.empty()) return 0;
    const double amount = std::max(1.0, work);
    const auto nearest =
        std::min_element(seen_.begin(), seen_.end(), [&](const Seen& x, const Seen& y) {
          return std::abs(std::log(x.work / amount)) < std::abs(std::log(y.work / amount));
        });
    const double sample_s = nearest->sample_s * amount / nearest->work;
    const auto blocks = static_cast<double>(level_.processes * level_.blocks);
    return static_cast<double>(level_.processes) * process_s_ + blocks * kBlockSamples * sample_s;
  }

 private:
  static constexpr double kBlockSamples = 4 * kGroupSamples;
  struct Seen {
    double work = 0;
    double sample_s = 0;  // mean of both arms
  };
  Level level_;
  double process_s_ = 0;  // of a process, without its samples; the most seen
  std::vector<Seen> seen_;
};

}  // namespace attn
