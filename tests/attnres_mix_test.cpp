// The one-shot read and its backward: central differences of the oracle's values, the laws that tie it to
// phase 1, to the merges and to the partial sum, and what problems with it or with a norm refuse.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_pair/contract.h"
#include "reference/attnres_mix/contract.h"
#include "reference/attnres_mix_bwd/contract.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"
#include "tests/central_differences.h"
#include "tests/op_case.h"

namespace attn {
namespace {

using attnres::Option;

constexpr double kFp32Between = 0x1p-22;  // a rounding to fp32 lies between both sides
constexpr std::int64_t kN = 4;
constexpr std::int64_t kD = 7;

/// All outputs, and no norm.
AttnResMix::Problem mix_problem(std::int64_t N = kN) {
  auto p = small<AttnResMix::Problem>(kD);
  p.N = N;
  p.lse = Option::kOn;
  return p;
}

template <class Problem>
Problem read_problem(std::int64_t N = kN) {
  auto p = small<Problem>(kD);
  p.N = N;
  p.S = 1;
  return p;
}

/// The sources [first, end) of `from` as those of `to`, and its query.
template <class To, class From>
void copy_read(To& to, From& from, std::int64_t first, std::int64_t end) {
  for (std::int64_t n = first; n < end; ++n) to.set_all("v", n - first, from.values("v", n));
  to.set_all("wt", -1, from.values("wt"));
}

void expect_near(const std::vector<double>& a, const std::vector<double>& b, double within) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_NEAR(a[i], b[i], within * (1 + std::abs(b[i]))) << i;
}

TEST(AttnResMixGradients, MatchCentralDifferences) {
  auto p = small<AttnResMixBwd::Problem>(5);
  p.N = 3;
  p.dlse = Option::kOn;
  OpCase<AttnResMixBwd> backward(p);
  const auto gradient = backward.oracle();
  auto forward_problem = small<AttnResMix::Problem>(5);
  static_cast<attnres::SourceProblem&>(forward_problem) = p;
  forward_problem.lse = Option::kOn;
  OpCase<AttnResMix> forward(forward_problem);  // the same labels and seed: the same inputs
  const auto dout = backward.values("dout");
  const auto dlse = backward.values("dlse");
  const auto loss = [&](OpCase<AttnResMix>& c) {
    const auto r = c.oracle();
    return inner(dout, r.value.data()) + inner(dlse, r.value.data() + r.begin(1));
  };
  std::size_t at = 0;
  for (std::int64_t n = 0; n < p.N; ++n) {
    for (std::int64_t i = 0; i < p.tokens() * p.D; ++i, ++at)
      EXPECT_NEAR(gradient.value[at], difference(forward, "v", n, i, loss), kDifferencing) << at;
  }
  for (std::int64_t i = 0; i < p.D; ++i, ++at)
    EXPECT_NEAR(gradient.value[at], difference(forward, "wt", -1, i, loss), kDifferencing) << at;
  EXPECT_EQ(at, gradient.value.size());
}

TEST(AttnResMixLaws, TheMixIsPhase1OfOneQuery) {
  OpCase<AttnResMix> mix(mix_problem());
  OpCase<AttnResPhase1> phase1(read_problem<AttnResPhase1::Problem>());
  copy_read(phase1, mix, 0, kN);
  EXPECT_EQ(mix.oracle().value, phase1.oracle().value);

  auto p = small<AttnResMixBwd::Problem>(kD);
  p.dlse = Option::kOn;
  auto q = read_problem<AttnResPhase1Bwd::Problem>();
  q.dlse = Option::kOn;
  p.add_to = q.add_to = {1, 2};
  p.dwt = q.dwt = attnres::Store::kAdd;
  EXPECT_EQ(OpCase<AttnResMixBwd>(p).oracle().value, OpCase<AttnResPhase1Bwd>(q).oracle().value);
}

TEST(AttnResMixLaws, PhaseOneAndAMergeAreOneMix) {
  OpCase<AttnResMix> whole(mix_problem());
  OpCase<AttnResPhase1> older(read_problem<AttnResPhase1::Problem>(kN - 1));
  copy_read(older, whole, 0, kN - 1);
  const auto read = older.oracle();
  auto p = small<AttnResMerge::Problem>(kD);
  p.lse = Option::kOn;
  OpCase<AttnResMerge> merge(p);
  merge.set_all("wt", -1, whole.values("wt"));
  merge.set_all("partial", -1, whole.values("v", kN - 1));
  merge.set_all("read", -1, output_of(read, 0));
  merge.set_all("z", -1, output_of(read, 1));
  expect_near(merge.oracle().value, whole.oracle().value, kFp32Between);
}

TEST(AttnResMixLaws, APairOfHalvesIsOneMix) {
  OpCase<AttnResMix> whole(mix_problem());
  OpCase<AttnResMergePair> pair(small<AttnResMergePair::Problem>(kD));
  const auto read_half = [&](std::int64_t first, std::int64_t end, const std::string& side) {
    OpCase<AttnResMix> half(mix_problem(end - first));
    copy_read(half, whole, first, end);
    const auto read = half.oracle();
    pair.set_all("read_" + side, -1, output_of(read, 0));
    pair.set_all("z_" + side, -1, output_of(read, 1));
  };
  read_half(0, 1, "a");
  read_half(1, kN, "b");
  expect_near(pair.oracle().value, whole.oracle().value, kFp32Between);
}

TEST(AttnResMixLaws, WeightsAddUpToOneAndMakeTheOutput) {
  auto p = mix_problem();
  p.weights = Option::kOn;
  OpCase<AttnResMix> c(p);
  const auto reference = c.oracle();
  const auto weights = output_of(reference, 2);
  for (std::size_t t = 0; t < 4; ++t) {
    const auto own = weights.begin() + static_cast<std::ptrdiff_t>(t * kN);
    EXPECT_NEAR(std::accumulate(own, own + kN, 0.0), 1, kExact);
    for (std::size_t d = 0; d < kD; ++d) {
      const std::size_t at = t * kD + d;
      double mixed = 0;
      for (std::int64_t n = 0; n < kN; ++n)
        mixed += own[n] * c.get("v", n, static_cast<std::int64_t>(at));
      EXPECT_NEAR(reference.value[at], mixed, kExact) << at;
    }
  }
}

TEST(AttnResMixLaws, AnUpdateIsAddedAsThePartialSumIs) {
  auto p = mix_problem();
  p.dtype = DType::kBF16;
  p.out_dtype = attnres::TypeChoice::kF32;
  OpCase<AttnResMix> plain(p);
  p.update = Option::kOn;
  OpCase<AttnResMix> updated(p);
  const auto reference = updated.oracle();
  const auto sum = output_of(reference, 2);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    float rounded = 0;
    store_element(&rounded, p.dtype, 0,
                  updated.get("v", kN - 1, at) + updated.get("update", -1, at));
    EXPECT_EQ(sum[i], load_element(&rounded, p.dtype, 0)) << i;
  }
  // What follows reads the rounded sum.
  copy_read(plain, updated, 0, kN);
  plain.set_all("v", kN - 1, sum);
  const auto of_sum = plain.oracle();
  EXPECT_EQ(output_of(reference, 0), output_of(of_sum, 0));
  EXPECT_EQ(output_of(reference, 1), output_of(of_sum, 1));

  auto q = small<AttnResMerge::Problem>(kD);
  q.dtype = p.dtype;
  q.update = Option::kOn;
  OpCase<AttnResMerge> merge(q);
  merge.set_all("partial", -1, updated.values("v", kN - 1));
  merge.set_all("update", -1, updated.values("update"));
  EXPECT_EQ(output_of(merge.oracle(), 1), sum);
}

TEST(AttnResMixLaws, OneSourceIsReturned) {
  OpCase<AttnResMix> c(mix_problem(1));
  EXPECT_EQ(output_of(c.oracle(), 0), c.values("v", 0));
  auto p = mix_problem(1);
  p.update = Option::kOn;
  const auto updated = OpCase<AttnResMix>(p).oracle();
  EXPECT_EQ(output_of(updated, 0), output_of(updated, 2));
}

TEST(AttnResMixContract, SaysWhatItRefuses) {
  const auto refusal = [](auto change) {
    AttnResMix::Problem p;
    change(p);
    return AttnResMix::validate(p).reason;
  };
  EXPECT_TRUE(AttnResMix::validate({}));
  EXPECT_EQ(refusal([](auto& p) { p.N = 0; }), "N must be between 1 and 128");
  EXPECT_EQ(refusal([](auto& p) { p.D = 0; }), "D must be between 1 and 16384");
  EXPECT_EQ(refusal([](auto& p) { p.T = -1; }), "B and T must be at least 0");
  EXPECT_EQ(refusal([](auto& p) { p.eps = 0; }), "eps must be above 0");
  EXPECT_EQ(refusal([](auto& p) { p.token_stride = 3; }),
            "token_stride must be 0 or between D and 32768");
  EXPECT_EQ(refusal([](auto& p) { p.norm_eps = std::nan(""); }), "norm_eps must be above 0");
}

TEST(AttnResMixContract, ItsBackwardSaysWhatItRefuses) {
  const auto refusal = [](auto change) {
    AttnResMixBwd::Problem p;
    change(p);
    return AttnResMixBwd::validate(p).reason;
  };
  EXPECT_TRUE(AttnResMixBwd::validate({}));
  EXPECT_EQ(refusal([](auto& p) { p.N = 129; }), "N must be between 1 and 128");
  EXPECT_EQ(refusal([](auto& p) { p.norm_eps = 0; }), "norm_eps must be above 0");
  EXPECT_EQ(refusal([](auto& p) { p.add_to = {4}; }),
            "add_to must name sources between 0 and N - 1");
  EXPECT_EQ(refusal([](auto& p) {
              p.sources = attnres::Sources::kStacked;
              p.add_to = {0};
            }),
            "add_to must name all stacked sources or none");
}

}  // namespace
}  // namespace attn
