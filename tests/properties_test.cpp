// Laws of the column reduction that need no oracle, for every backend that runs here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "tests/laws.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

constexpr Mask kMasks[] = {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft};

TEST_P(Laws, SumsAddUpToTheRowsThatSeeAKey) {
  for (const Mask mask : kMasks) {
    for (const auto& [M, N] : {std::pair{67, 131}, {131, 67}, {1, 19}}) {
      HostCase c({.H = 2, .M = M, .N = N, .D = 64, .mask = mask});
      if (!takes(c.problem)) continue;
      const std::vector<float> out = run(c);
      const AttentionMask visible = c.problem.attention_mask();
      double rows = 0;
      for (std::int64_t m = 0; m < M; ++m) rows += visible.key_end(m) > 0;
      for (std::int64_t h = 0; h < 2; ++h) {
        const double sum = std::accumulate(out.begin() + h * N, out.begin() + (h + 1) * N, 0.0);
        EXPECT_LE(std::abs(sum - rows), tolerance(c.problem) * rows) << kMaskNames[int(mask)];
      }
    }
  }
}

TEST_P(Laws, PermutingTheKeysPermutesTheOutput) {
  HostCase c({.M = 33, .N = 70, .D = 64});
  HostCase reversed({.M = 33, .N = 70, .D = 64});
  const auto from = c.tensors().k;
  const auto to = reversed.tensors().k;
  for (std::int64_t n = 0; n < 70; ++n) {
    for (std::int64_t d = 0; d < 64; ++d)
      reversed.set(to, 0, 0, 69 - n, d, c.get(from, 0, 0, n, d));
  }
  const std::vector<float> a = run(c);
  const std::vector<float> b = run(reversed);
  for (std::size_t n = 0; n < 70; ++n)
    EXPECT_LE(std::abs(a[n] - b[69 - n]), tolerance(c.problem) * a[n]) << n;
}

TEST_P(Laws, AnotherBatchChangesNothing) {
  HostCase c({.B = 2, .H = 2, .M = 40, .N = 50, .D = 64});
  const std::vector<float> before = run(c);
  const auto k = c.tensors().k;
  for (std::int64_t n = 0; n < 50; ++n) c.set(k, 1, 0, n, 3, 5.0f);
  const std::vector<float> after = run(c);
  expect_same(c.problem, std::span(before).first(100), std::span(after).first(100));
  EXPECT_FALSE(std::equal(before.begin() + 100, before.end(), after.begin() + 100));
}

TEST_P(Laws, KeysUnderTheMaskAreNeverRead) {
  // Top left with M < N: keys from M on are seen by nobody.
  HostCase c({.H = 2, .M = 30, .N = 200, .D = 64, .mask = Mask::kCausalTopLeft});
  const std::vector<float> before = run(c);
  const auto k = c.tensors().k;
  for (std::int64_t n = 30; n < 200; ++n) c.set(k, 0, 1, n, 5, 1000.0f);
  const std::vector<float> after = run(c);
  expect_same(c.problem, before, after);
  for (std::size_t n = 30; n < 200; ++n) EXPECT_EQ(after[n], 0) << "an empty column is 0";
}

TEST_P(Laws, MaximumLiesBetweenMeanAndOne) {
  for (const Mask mask : kMasks) {
    HostCase sum({.H = 2, .M = 67, .N = 90, .D = 64, .mask = mask});
    HostCase max({.H = 2, .M = 67, .N = 90, .D = 64, .reduction = Reduction::kMax, .mask = mask});
    if (!takes(sum.problem)) GTEST_SKIP() << GetParam() << " takes fewer queries";
    const std::vector<float> s = run(sum);
    const std::vector<float> m = run(max);
    for (std::size_t n = 0; n < s.size(); ++n) {
      EXPECT_LE(m[n], 1 + tolerance(sum.problem));
      EXPECT_GE(m[n] * (1 + tolerance(sum.problem)), s[n] / 67);
    }
  }
}

TEST_P(Laws, MeanIsTheSumOverItsDivisor) {
  for (const MeanOver over : {MeanOver::kVisible, MeanOver::kAll}) {
    HostCase sum({.M = 67, .N = 90, .D = 64, .mask = Mask::kCausal});
    HostCase mean({.M = 67,
                   .N = 90,
                   .D = 64,
                   .reduction = Reduction::kMean,
                   .mask = Mask::kCausal,
                   .mean_over = over});
    if (!takes(sum.problem)) GTEST_SKIP() << GetParam() << " takes fewer queries";
    const std::vector<float> s = run(sum);
    const std::vector<float> a = run(mean);
    for (std::size_t n = 0; n < s.size(); ++n) {
      const double expected = s[n] / mean.problem.divisor(static_cast<std::int64_t>(n));
      EXPECT_LE(std::abs(a[n] - expected), tolerance(sum.problem) * expected);
    }
  }
}

TEST_P(Laws, LayoutDoesNotMatter) {
  const Problem base{.B = 2, .H = 3, .M = 37, .N = 53, .D = 64, .mask = Mask::kCausal};
  HostCase head_major(base);
  const std::vector<float> expected = run(head_major);
  for (const Layout layout : {Layout::kRowMajor, Layout::kFusedSlice}) {
    Problem p = base;
    p.layout = layout;
    HostCase c(p);
    expect_same(base, run(c), expected);
  }
}

TEST_P(Laws, GroupedQueriesEqualRepeatedKeys) {
  HostCase grouped({.H = 6, .H_kv = 2, .M = 33, .N = 41, .D = 64});
  HostCase repeated({.H = 6, .M = 33, .N = 41, .D = 64});
  const auto from = grouped.tensors().k;
  const auto to = repeated.tensors().k;
  for (std::int64_t h = 0; h < 6; ++h) {
    for (std::int64_t n = 0; n < 41; ++n) {
      for (std::int64_t d = 0; d < 64; ++d)
        repeated.set(to, 0, h, n, d, grouped.get(from, 0, h / 3, n, d));
    }
  }
  const std::vector<float> a = run(grouped);
  const std::vector<float> b = run(repeated);
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_LE(std::abs(a[i] - b[i]), tolerance(grouped.problem) * b[i]);
}

TEST_P(Laws, ScaleZeroWeighsAllKeysAlike) {
  HostCase c({.M = 21, .N = 64, .D = 64, .scale = 0});
  for (const float value : run(c))
    EXPECT_LE(std::abs(value - 21.0 / 64), tolerance(c.problem) * 21.0 / 64);
}

/// One NaN in a query poisons the keys that it sees in its head, and nothing else.
TEST_P(Laws, NanStaysInItsRow) {
  HostCase c({.H = 2, .M = 20, .N = 150, .D = 64, .mask = Mask::kCausalTopLeft});
  c.set(c.tensors().q, 0, 1, 9, 0, NAN);
  const std::vector<float> out = run(c);
  for (std::size_t n = 0; n < 150; ++n) {
    EXPECT_FALSE(std::isnan(out[n])) << n;
    EXPECT_EQ(std::isnan(out[150 + n]), n <= 9) << n;
  }
}

/// No average over many queries hides what is lost where all keys of a CTA lie far below a row's largest.
TEST_P(Laws, FewPeakedRowsAreWithinTheirBound) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    HostCase c({.B = 8, .H = 8, .M = 2, .N = 300, .D = 64, .dtype = dtype}, InputFamily::kPeaked);
    const std::vector<float> out = run(c);
    const ColReduce::Reference reference = c.oracle();
    for (std::size_t i = 0; i < out.size(); ++i)
      EXPECT_LE(std::abs(out[i] - reference.value[i]),
                ColReduce::tolerance(c.problem, reference, i, evaluator_->info().numerics))
          << i;
  }
}

TEST_P(Laws, RepeatsAreBitEqual) {
  if (!evaluator_->info().deterministic) GTEST_SKIP() << GetParam() << " promises no equal bits";
  Problem p{.H = 2, .M = 300, .N = 523, .D = 64};
  if (!takes(p)) p.M = 60;
  HostCase c(p);
  const std::vector<float> first = run(c);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(run(c), first);
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         Laws,
                         testing::ValuesIn(Evaluator::backend_ids()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace attn
