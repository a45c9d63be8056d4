// Predicts how long a cell takes from the cells seen so far, for ETA, budget and limit.
#pragma once

#include <algorithm>
#include <map>
#include <string>

namespace attn {

class CostModel {
 public:
  explicit CostModel(double unseen_seconds) : unseen_seconds_(unseen_seconds) {}

  /// `seconds` were spent on `work` units (any unit, used throughout) by `who`.
  void observe(const std::string& who, double work, double seconds) {
    Seen& seen = seen_[who];
    if (work < seen.work) return;  // the largest case tells most about the rate
    seen = {std::max(work, 1.0), seconds};
  }
  /// Never less than a tenth of what was seen: small cells are dominated by fixed costs.
  double predict(const std::string& who, double work) const {
    const auto it = seen_.find(who);
    if (it == seen_.end()) return unseen_seconds_;
    return it->second.seconds * std::max(work / it->second.work, 0.1);
  }

 private:
  struct Seen {
    double work = 0;
    double seconds = 0;
  };
  double unseen_seconds_;
  std::map<std::string, Seen> seen_;
};

}  // namespace attn
