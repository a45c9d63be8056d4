// What tests of laws share: one backend that runs here, and how closely it may be held to a law.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/evaluate.h"
#include "tests/host_case.h"

namespace attn {

/// Rounding of a few fp32 operations, and of weights that a backend keeps in 16 bits.
inline double slack(const BackendInfo& info, const ColReduce::Problem& p) {
  if (p.dtype != DType::kF32) {
    if (info.numerics == NumericsClass::kHalfWeights) return 16 * unit_roundoff(DType::kF16);
    if (info.numerics == NumericsClass::kStored) return 16 * unit_roundoff(p.dtype);
  }
  return 0x1p-14;
}

class Laws : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    evaluator_ = Evaluator::find(GetParam(), skip_);
    if (!evaluator_) GTEST_SKIP() << skip_;
  }
  /// Whether the backend takes the problem; a test of what it refuses is skipped.
  bool takes(const ColReduce::Problem& p) const { return evaluator_->supports(p).ok; }
  std::vector<float> run(HostCase& c) { return evaluator_->run(c); }
  double tolerance(const ColReduce::Problem& p) const { return slack(evaluator_->info(), p); }
  /// Equal bit for bit where the backend is deterministic.
  void expect_same(const ColReduce::Problem& p,
                   std::span<const float> a,
                   std::span<const float> b) const {
    ASSERT_EQ(a.size(), b.size());
    const double allowed = evaluator_->info().deterministic ? 0 : tolerance(p);
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_LE(std::abs(a[i] - b[i]), allowed * std::abs(a[i])) << i;
  }

  std::optional<Evaluator> evaluator_;
  std::string skip_;
};

}  // namespace attn
