// Warm-up that ends by state: when the clock has settled, not after a number of runs.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <utility>

namespace attn {

/// Watches a clock until it is steady: over the last half second its means over tenths of a second
/// lie within 0.5 % of each other.
class ClockWatch {
 public:
  /// Readings come in the order of time.
  void add(double now_s, double mhz);
  bool steady() const;

 private:
  std::deque<std::pair<double, double>> readings_;  // s, MHz
  bool full_ = false;                               // they reach back over the whole window
};

/// Runs the work once or more; the clock meanwhile, empty where nothing tells.
using WarmStep = std::function<std::optional<double>()>;

inline constexpr double kWarmUpSeconds = 3;        ///< at most
inline constexpr double kWarmWindowSeconds = 0.5;  ///< over which the clock must be steady

/// Takes steps until the clock is steady, for `most_s` at most; where nothing tells the clock, for
/// 50 ms. `now_s` is a clock in seconds. Returns false when the clock did not settle.
bool warm_up(const WarmStep& step,
             const std::function<double()>& now_s,
             double most_s = kWarmUpSeconds);

}  // namespace attn
