// The comparer must reject: NaN in its place and out of it, one element, infinities, zero tolerance.
#include "harness/verify.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace attn {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

class FixedReference final : public AnyReference {
 public:
  FixedReference(std::vector<double> values, double tolerance, double norm_tolerance = kInf)
      : values_(std::move(values)), tolerance_(tolerance), norm_tolerance_(norm_tolerance) {}
  std::size_t size() const override { return values_.size(); }
  double value(std::size_t i) const override { return values_[i]; }
  double tolerance(std::size_t, NumericsClass) const override { return tolerance_; }
  double norm_tolerance(std::size_t, NumericsClass) const override { return norm_tolerance_; }
  std::string_view computed_by() const override { return "test"; }

 private:
  std::vector<double> values_;
  double tolerance_;
  double norm_tolerance_;
};

ErrorReport compare(const std::vector<float>& output,
                    const std::vector<double>& expected,
                    double tolerance = 0.25) {
  return compare_with_reference(output.data(), DType::kF32, FixedReference(expected, tolerance),
                                NumericsClass::kFp32);
}

TEST(Compare, PassesUpToTheTolerance) {
  EXPECT_TRUE(compare({1, 2.25f}, {1, 2}).ok);
  EXPECT_EQ(compare({1, 2.25f}, {1, 2}).nerr_max, 1);
  EXPECT_EQ(compare({1, 2.125f}, {1, 2}).nerr_max, 0.5);
}

TEST(Compare, SeveralOutputsAreComparedTogether) {
  const std::vector<float> out = {1, 2};
  std::vector<std::uint16_t> lse = {float_to_f16(3), float_to_f16(4)};
  const OutputView outputs[] = {{"out", out.data(), DType::kF32, 2},
                                {"lse", lse.data(), DType::kF16, 2}};
  const FixedReference reference({1, 2, 3, 4}, 0.25);
  EXPECT_TRUE(compare_with_reference(outputs, reference, NumericsClass::kFp32).ok);
  lse[1] = float_to_f16(5);
  const ErrorReport report = compare_with_reference(outputs, reference, NumericsClass::kFp32);
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(report.output, 1u);
  EXPECT_EQ(report.worst, 1u);
  EXPECT_NE(report.complaint.find("element 1 of lse is 5, not 4"), std::string::npos);
  EXPECT_FALSE(compare_with_reference(std::span(outputs, 1), reference, NumericsClass::kFp32).ok)
      << "an output is missing";
}

TEST(Compare, BoundsTheNormOfAnOutputsErrorWhereTheReferenceDoes) {
  const std::vector<float> out = {1.25f, 1.75f, 3.25f, 3.75f};  // each within its own tolerance
  const OutputView outputs[] = {{"dv", out.data(), DType::kF32, 2},
                                {"dw", out.data() + 2, DType::kF32, 2}};
  const std::vector<double> expected = {1, 2, 3, 4};
  EXPECT_TRUE(
      compare_with_reference(outputs, FixedReference(expected, 0.25, 0.375), NumericsClass::kFp32)
          .ok);
  const ErrorReport report =
      compare_with_reference(outputs, FixedReference(expected, 0.25, 0.3125), NumericsClass::kFp32);
  EXPECT_FALSE(report.ok) << "the norm is 0.354";
  EXPECT_GT(report.nerr_max, 1);
  EXPECT_EQ(report.complaint, "the norm of the error of dv is 0.354, not below 0.312");
}

TEST(Compare, RejectsOneElementAndNamesIt) {
  const ErrorReport report = compare({1, 2, 3.5f, 4}, {1, 2, 3, 4});
  EXPECT_FALSE(report.ok);
  EXPECT_EQ(report.worst, 2u);
  EXPECT_EQ(report.nerr_max, 2);
  EXPECT_NE(report.complaint.find("element 2 is 3.5, not 3"), std::string::npos);
}

TEST(Compare, NanPassesOnlyWhereItBelongs) {
  EXPECT_TRUE(compare({1, kNan}, {1, kNan}).ok);
  EXPECT_FALSE(compare({1, kNan}, {1, 2}).ok);
  EXPECT_FALSE(compare({1, 2}, {1, kNan}).ok);
  EXPECT_EQ(compare({kNan, 2}, {1, 2}).worst, 0u);
}

TEST(Compare, InfinitiesMustMatch) {
  EXPECT_TRUE(compare({kInf}, {kInf}).ok);
  EXPECT_FALSE(compare({kInf}, {-kInf}).ok);
  EXPECT_FALSE(compare({kInf}, {1}).ok);
  EXPECT_FALSE(compare({1}, {kInf}).ok);
}

TEST(Compare, NoToleranceMeansEqual) {
  EXPECT_TRUE(compare({1}, {1}, 0).ok);
  EXPECT_FALSE(compare({1.0000001f}, {1}, 0).ok);
  EXPECT_FALSE(compare({1.5f}, {1}, kNan).ok);
}

TEST(Compare, ReadsTheOutputsType) {
  const std::uint16_t half[] = {0x3c00, 0x4000};  // 1, 2
  const FixedReference reference({1, 2}, 0);
  EXPECT_TRUE(compare_with_reference(half, DType::kF16, reference, NumericsClass::kFp32).ok);
  EXPECT_FALSE(compare_with_reference(half, DType::kBF16, reference, NumericsClass::kFp32).ok);
}

}  // namespace
}  // namespace attn
