// Laws of the column reduction's options that need no oracle, for every backend that takes them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/laws.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

class OptionLaws : public Laws {
 protected:
  /// Equal up to the rounding of a few operations.
  void expect_near(const Problem& p, std::span<const float> a, std::span<const float> b) const {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_LE(std::abs(a[i] - b[i]), tolerance(p) * std::abs(b[i])) << i;
  }
  /// Of two forms of one problem: equal bit for bit, unless the backend may choose another for each.
  void expect_same_of_forms(const Problem& p,
                            std::span<const float> a,
                            std::span<const float> b) const {
    if (GetParam() == "auto") {
      expect_near(p, a, b);
    } else {
      expect_same(p, a, b);
    }
  }
};

/// The problem whose queries are rows [begin, end) of `whole`, with their values.
HostCase sliced(HostCase& whole, std::int64_t begin, std::int64_t end) {
  Problem p = whole.problem;
  p.query_begin = 0;
  p.query_end = -1;
  p.M = end - begin;
  HostCase slice(p);
  slice.storage(1) = whole.storage(1);
  const TensorView from = whole.tensors().q;
  const TensorView to = slice.tensors().q;
  for (std::int64_t h = 0; h < p.H; ++h)
    for (std::int64_t m = 0; m < p.M; ++m)
      for (std::int64_t d = 0; d < p.D; ++d)
        slice.set(to, 0, h, m, d, whole.get(from, 0, h, begin + m, d));
  return slice;
}

TEST_P(OptionLaws, AQueryRangeEqualsSlicingTheQueries) {
  // A right-aligned mask stays aligned where the slice ends with the last query.
  const Problem problems[] = {
      {.H = 2, .M = 131, .N = 90, .D = 64, .query_begin = 3, .query_end = 4},
      {.H = 2, .M = 131, .N = 90, .D = 64, .query_begin = 60, .query_end = 130},
      {.M = 70, .N = 131, .D = 64, .mask = Mask::kCausal, .query_begin = 33},
      {.M = 131, .N = 70, .D = 64, .mask = Mask::kCausal, .query_begin = 100},
      {.M = 70, .N = 90, .D = 64, .mask = Mask::kCausalTopLeft, .query_end = 37}};
  bool taken = false;
  for (Problem p : problems) {
    for (const Reduction reduction : {Reduction::kSum, Reduction::kMean, Reduction::kMax}) {
      p.reduction = reduction;
      if (!takes(p)) continue;
      taken = true;
      HostCase whole(p);
      const RowRange rows = p.contributing();
      HostCase slice = sliced(whole, rows.begin, rows.end);
      expect_near(p, run(whole), run(slice));
    }
  }
  if (!taken) GTEST_SKIP() << GetParam() << " refuses query ranges";
}

TEST_P(OptionLaws, RangesThatSplitTheQueriesAddUp) {
  for (const Mask mask : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
    HostCase whole({.H = 2, .M = 150, .N = 131, .D = 64, .mask = mask});
    HostCase first = whole;
    HostCase last = whole;
    first.problem.query_end = 67;
    last.problem.query_begin = 67 - 150;
    if (!takes(first.problem)) GTEST_SKIP() << GetParam() << " refuses query ranges";
    std::vector<float> sum = run(first);
    const std::vector<float> rest = run(last);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += rest[i];
    expect_near(whole.problem, sum, run(whole));
  }
}

TEST_P(OptionLaws, QueriesOutsideTheRangeAreNeverRead) {
  HostCase c({.H = 2, .M = 140, .N = 70, .D = 64, .query_begin = 65, .query_end = 70});
  if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " refuses query ranges";
  const std::vector<float> before = run(c);
  const TensorView q = c.tensors().q;
  for (std::int64_t m = 0; m < 140; ++m) {
    if (m < 65 || m >= 70) c.set(q, 0, 1, m, 7, NAN);
  }
  expect_same(c.problem, run(c), before);
}

TEST_P(OptionLaws, AWindowThatReachesEveryKeyIsNone) {
  for (const Mask mask : {Mask::kNone, Mask::kCausal}) {
    HostCase all({.H = 2, .M = 100, .N = 131, .D = 64, .mask = mask});
    HostCase wide = all;
    wide.problem.window = 131;
    if (!takes(wide.problem)) GTEST_SKIP() << GetParam() << " refuses windows";
    expect_same_of_forms(all.problem, run(wide), run(all));
  }
}

TEST_P(OptionLaws, AWindowOfOneKeyPutsAllWeightOnTheDiagonal) {
  HostCase c({.H = 2, .M = 90, .N = 131, .D = 64, .mask = Mask::kCausal, .window = 0});
  if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " refuses windows";
  const std::vector<float> out = run(c);
  for (std::size_t i = 0; i < out.size(); ++i)
    EXPECT_LE(std::abs(out[i] - (i % 131 < 131 - 90 ? 0 : 1)), tolerance(c.problem)) << i;
}

/// Keys that no window reaches get 0 and leave the others as they are.
TEST_P(OptionLaws, KeysLeftOfTheWindowAreNeverRead) {
  HostCase c({.H = 2, .M = 20, .N = 300, .D = 64, .mask = Mask::kCausal, .window = 70});
  if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " refuses windows";
  const std::vector<float> before = run(c);
  const TensorView k = c.tensors().k;
  for (std::int64_t n = 0; n < 300 - 20 - 70; ++n) c.set(k, 0, 1, n, 5, NAN);
  const std::vector<float> after = run(c);
  expect_same(c.problem, after, before);
  for (std::size_t n = 0; n < 300 - 20 - 70; ++n) EXPECT_EQ(after[300 + n], 0);
}

TEST_P(OptionLaws, WindowedSumsAddUpToTheQueries) {
  for (const std::int64_t window : {1, 63, 64, 65, 200}) {
    HostCase c({.M = 260, .N = 300, .D = 64, .mask = Mask::kCausal, .window = window});
    if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " refuses windows";
    double sum = 0;
    for (const float value : run(c)) sum += value;
    EXPECT_LE(std::abs(sum - 260), tolerance(c.problem) * 260);
  }
}

TEST_P(OptionLaws, ACapFarAboveTheScoresChangesNothing) {
  HostCase c({.H = 2, .M = 90, .N = 131, .D = 64, .mask = Mask::kCausal});
  HostCase capped = c;
  capped.problem.softcap = 1e5;
  if (!takes(capped.problem)) GTEST_SKIP() << GetParam() << " refuses soft caps";
  expect_near(c.problem, run(capped), run(c));
}

TEST_P(OptionLaws, ACapNearZeroWeighsAllKeysAlike) {
  HostCase c({.M = 90, .N = 131, .D = 64, .softcap = 0x1p-20});
  if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " refuses soft caps";
  for (const float value : run(c))
    EXPECT_LE(std::abs(value - 90.0 / 131), tolerance(c.problem) * 90 / 131);
}

/// A problem of every way in which rows can be cut.
Problem with_cut_rows(Lse lse) {
  return {.B = 2,
          .H = 4,
          .H_kv = 2,
          .M = 131,
          .N = 100,
          .D = 64,
          .mask = Mask::kCausal,
          .query_begin = 3,
          .query_end = 129,
          .window = 40,
          .softcap = 4,
          .lse = lse};
}

TEST_P(OptionLaws, AReturnedLseIsTheRowsNormaliser) {
  HostCase c(with_cut_rows(Lse::kOut));
  if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " returns no lse";
  HostCase plain(with_cut_rows(Lse::kNone));
  expect_near(c.problem, run(c), run(plain));
  const TensorView lse = c.tensors().lse;
  HostCase exact(with_cut_rows(Lse::kIn));
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t h = 0; h < 4; ++h) {
      for (std::int64_t m = 0; m < 131; ++m) {
        const float got = c.get(lse, b, h, m, 0);
        const float expected = exact.get(exact.tensors().lse, b, h, m, 0);
        if (std::isinf(expected)) {
          EXPECT_EQ(got, expected) << m;
        } else {
          EXPECT_LE(std::abs(got - expected), 4 * tolerance(c.problem)) << m;
        }
      }
    }
  }
}

TEST_P(OptionLaws, AGivenLseEqualsAComputedOne) {
  for (const Reduction reduction : {Reduction::kSum, Reduction::kMean, Reduction::kMax}) {
    Problem p = with_cut_rows(Lse::kIn);
    p.reduction = reduction;
    if (!takes(p)) GTEST_SKIP() << GetParam() << " takes no lse";
    HostCase given(p);
    p.lse = Lse::kNone;
    HostCase computed(p);
    expect_near(p, run(given), run(computed));
  }
}

/// Some forward passes say +inf of a row that sees nothing, others -inf.
TEST_P(OptionLaws, QueriesWithAnInfiniteLseHaveNoWeight) {
  HostCase c({.M = 70, .N = 90, .D = 64, .lse = Lse::kIn});
  if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " takes no lse";
  const TensorView lse = c.tensors().lse;
  for (std::int64_t m = 0; m < 70; ++m) {
    if (m != 20) c.set(lse, 0, 0, m, 0, m % 2 ? INFINITY : -INFINITY);
  }
  HostCase one({.M = 70, .N = 90, .D = 64, .query_begin = 20, .query_end = 21});
  expect_near(c.problem, run(c), run(one));
}

TEST_P(OptionLaws, ANanInTheLsePoisonsItsQuery) {
  HostCase c({.H = 2, .M = 70, .N = 90, .D = 64, .mask = Mask::kCausalTopLeft, .lse = Lse::kIn});
  if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " takes no lse";
  c.set(c.tensors().lse, 0, 1, 9, 0, NAN);
  const std::vector<float> out = run(c);
  for (std::size_t n = 0; n < 90; ++n) {
    EXPECT_FALSE(std::isnan(out[n])) << n;
    EXPECT_EQ(std::isnan(out[90 + n]), n <= 9) << n;
  }
}

/// Combined heads against what the heads say each by itself.
TEST_P(OptionLaws, CombinedHeadsAreThoseOfEach) {
  for (const Reduction reduction : {Reduction::kSum, Reduction::kMean, Reduction::kMax}) {
    Problem p{.B = 2, .H = 6, .H_kv = 2, .M = 67, .N = 131, .D = 64, .mask = Mask::kCausal};
    p.reduction = reduction;
    if (!takes(p)) GTEST_SKIP() << GetParam() << " does not take the heads by themselves";
    HostCase each(p);
    const std::vector<float> heads = run(each);
    for (const Heads kind : {Heads::kMean, Heads::kSum, Heads::kMax, Heads::kGroup}) {
      p.heads = kind;
      if (!takes(p)) GTEST_SKIP() << GetParam() << " combines no heads";
      HostCase c(p);
      const std::size_t combined = kind == Heads::kGroup ? 3 : 6;
      std::vector<float> expected(c.outputs());
      for (std::size_t i = 0; i < expected.size(); ++i) {
        for (std::size_t h = 0; h < combined; ++h) {
          const float one = heads[(i / 131 * combined + h) * 131 + i % 131];
          expected[i] = kind == Heads::kMax ? std::max(expected[i], one) : expected[i] + one;
        }
        if (kind == Heads::kMean) expected[i] /= 6;
      }
      expect_near(p, run(c), expected);
    }
  }
}

TEST_P(OptionLaws, GroupsWithoutSharedKeysAreTheHeadsEach) {
  HostCase each({.H = 3, .M = 40, .N = 70, .D = 64});
  HostCase group({.H = 3, .M = 40, .N = 70, .D = 64, .heads = Heads::kGroup});
  if (!takes(group.problem)) GTEST_SKIP() << GetParam() << " combines no heads";
  expect_same_of_forms(each.problem, run(group), run(each));
}

TEST_P(OptionLaws, ANanInOneHeadReachesWhatItIsCombinedWith) {
  for (const Heads kind : {Heads::kMean, Heads::kSum, Heads::kMax, Heads::kGroup}) {
    Problem p{.H = 4, .H_kv = 2, .M = 20, .N = 70, .D = 64, .mask = Mask::kCausalTopLeft};
    p.heads = kind;
    HostCase combined(p);
    if (!takes(combined.problem)) GTEST_SKIP() << GetParam() << " combines no heads";
    combined.set(combined.tensors().q, 0, 1, 9, 0, NAN);
    const std::vector<float> out = run(combined);
    for (std::size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i <= 9) << i;
  }
}

/// One sequence of a case as a problem of its own, its rows copied.
HostCase alone(HostCase& whole, const ColReduce::Part& part) {
  Problem p = part.problem;
  p.q_strides = p.k_strides = {};
  HostCase own(p);
  const ColReduce::Tensors from = part.slice(whole.tensors());
  const ColReduce::Tensors to = own.tensors();
  for (std::int64_t d = 0; d < p.D; ++d) {
    for (std::int64_t h = 0; h < p.H; ++h)
      for (std::int64_t m = 0; m < p.M; ++m)
        own.set(to.q, 0, h, m, d, whole.get(from.q, 0, h, m, d));
    for (std::int64_t h = 0; h < p.key_heads(); ++h)
      for (std::int64_t n = 0; n < p.N; ++n)
        own.set(to.k, 0, h, n, d, whole.get(from.k, 0, h, n, d));
  }
  return own;
}

TEST_P(OptionLaws, PaddedBatchesEqualTheirSequencesAlone) {
  for (const Mask mask : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
    HostCase padded({.B = 3,
                     .H = 2,
                     .M = 90,
                     .N = 131,
                     .D = 64,
                     .reduction = Reduction::kMean,
                     .mask = mask,
                     .q_len = {90, 65, 7},
                     .kv_len = {3, 131, 70}});
    if (!takes(padded.problem)) GTEST_SKIP() << GetParam() << " takes no lengths";
    const std::vector<float> out = run(padded);
    for (const ColReduce::Part& part : ColReduce::parts(padded.problem)) {
      HostCase own = alone(padded, part);
      const std::vector<float> expected = run(own);
      const auto keys = static_cast<std::size_t>(part.problem.N);
      for (std::size_t h = 0; h < 2; ++h) {
        const auto head = static_cast<std::size_t>(part.batch) * 2 + h;
        const std::span<const float> row = std::span(out).subspan(head * 131, 131);
        expect_near(padded.problem, row.first(keys), std::span(expected).subspan(h * keys, keys));
        for (const float value : row.subspan(keys)) EXPECT_EQ(value, 0) << "no such key";
      }
    }
  }
}

/// Lengths from one row to many tiles, and nothing between them.
TEST_P(OptionLaws, PackedBatchesEqualTheirSequencesAlone) {
  for (const Layout layout : {Layout::kHeadMajor, Layout::kRowMajor}) {
    for (const Mask mask : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
      HostCase packed({.H = 4,
                       .H_kv = 2,
                       .M = 300,
                       .N = 331,
                       .D = 64,
                       .mask = mask,
                       .layout = layout,
                       .cu_q = {0, 1, 200, 200, 265, 300},
                       .cu_k = {0, 131, 132, 262, 300, 331}});
      if (!takes(packed.problem)) GTEST_SKIP() << GetParam() << " takes no packed batches";
      const std::vector<float> out = run(packed);
      for (std::size_t n = 132; n < 262; ++n) EXPECT_EQ(out[n], 0) << "no query of its own";
      for (const ColReduce::Part& part : ColReduce::parts(packed.problem)) {
        HostCase own = alone(packed, part);
        const std::vector<float> expected = run(own);
        const auto keys = static_cast<std::size_t>(part.problem.N);
        const auto first = static_cast<std::size_t>(part.k_first);
        for (std::size_t h = 0; h < 4; ++h)
          expect_near(packed.problem, std::span(out).subspan(h * 331 + first, keys),
                      std::span(expected).subspan(h * keys, keys));
      }
    }
  }
}

TEST_P(OptionLaws, OneSequenceIsThePlainProblem) {
  HostCase plain({.H = 2, .M = 90, .N = 131, .D = 64, .mask = Mask::kCausal});
  HostCase packed = plain;
  packed.problem.cu_q = {0, 90};
  packed.problem.cu_k = {0, 131};
  if (!takes(packed.problem)) GTEST_SKIP() << GetParam() << " takes no packed batches";
  expect_same_of_forms(plain.problem, run(packed), run(plain));
}

TEST_P(OptionLaws, WhatLiesBeyondALengthIsNeverRead) {
  HostCase c({.B = 2, .H = 2, .M = 70, .N = 90, .D = 64, .q_len = {70, 33}, .kv_len = {65, 90}});
  if (!takes(c.problem)) GTEST_SKIP() << GetParam() << " takes no lengths";
  const std::vector<float> before = run(c);
  const ColReduce::Tensors t = c.tensors();
  for (std::int64_t h = 0; h < 2; ++h) {
    for (std::int64_t m = 33; m < 70; ++m) c.set(t.q, 1, h, m, 5, NAN);
    for (std::int64_t n = 65; n < 90; ++n) c.set(t.k, 0, h, n, 5, NAN);
  }
  expect_same(c.problem, run(c), before);
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         OptionLaws,
                         testing::ValuesIn(Evaluator::backend_ids()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace attn
