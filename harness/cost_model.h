// Predicts how long a cell takes from the cells seen so far, for ETA, budget and limit.
#pragma once

#include <map>
#include <string>

namespace attn {

class CostModel {
 public:
  /// Flops of a problem that take as long as a cell's fixed steps. On a device these, samples for a set time and
  /// checks, outlast most problems.
  static constexpr double kHostFixedWork = 1e8;
  static constexpr double kDeviceFixedWork = 1e12;

  explicit CostModel(double unseen_seconds, double fixed_work = kHostFixedWork)
      : unseen_seconds_(unseen_seconds), fixed_work_(fixed_work) {}

  /// `seconds` were spent on `work` flops by `who`.
  void observe(const std::string& who, double work, double seconds) {
    Seen& seen = seen_[who];
    if (work < seen.work) return;  // the largest case tells most about the rate
    seen = {work, seconds};
  }
  /// Seconds for `cells` cells of `work` flops together.
  double predict(const std::string& who, double work, double cells = 1) const {
    const auto it = seen_.find(who);
    if (it == seen_.end()) return cells * unseen_seconds_;
    return it->second.seconds * (work + cells * fixed_work_) / (it->second.work + fixed_work_);
  }

 private:
  struct Seen {
    double work = 0;
    double seconds = 0;
  };
  double unseen_seconds_;
  double fixed_work_;
  std::map<std::string, Seen> seen_;
};

}  // namespace attn
