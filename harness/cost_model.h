// Predicts how long a cell takes from the cells seen so far, for ETA, budget and limit.
#pragma once

#include <map>
#include <string>

namespace attn {

class CostModel {
 public:
  explicit CostModel(double unseen_seconds) : unseen_seconds_(unseen_seconds) {}

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
    return it->second.seconds * (work + cells * kFixedWork) / (it->second.work + kFixedWork);
  }

 private:
  static constexpr double kFixedWork = 1e8;  ///< flops that cost as much as a cell's fixed steps
  struct Seen {
    double work = 0;
    double seconds = 0;
  };
  double unseen_seconds_;
  std::map<std::string, Seen> seen_;
};

}  // namespace attn
