// Masks against their definitions in words, by brute force over every small shape.
#include <gtest/gtest.h>

#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn {
namespace {

bool visible_by_definition(Mask mask,
                           std::int64_t window,
                           std::int64_t m,
                           std::int64_t n,
                           std::int64_t M,
                           std::int64_t N) {
  if (window >= 0 && n < m + (N - M) - window) return false;
  switch (mask) {
    case Mask::kNone:
      return true;
    case Mask::kCausal:
      return M - 1 - m <= N - 1 - n;  // counted from the last query and key
    case Mask::kCausalTopLeft:
      return n <= m;
  }
  return false;
}

/// Ends of intervals, and work(), against counting over one shape.
void expect_definition(Mask kind, std::int64_t window, std::int64_t M, std::int64_t N) {
  const AttentionMask mask = AttentionMask::make(kind, M, N, window);
  std::int64_t pairs = 0;
  for (std::int64_t m = 0; m < M; ++m) {
    for (std::int64_t n = 0; n < N; ++n) {
      ASSERT_EQ(mask.visible(m, n), visible_by_definition(kind, window, m, n, M, N));
      ASSERT_EQ(mask.visible(m, n), n >= mask.key_begin(m) && n < mask.key_end(m));
      ASSERT_EQ(mask.visible(m, n), m >= mask.query_begin(n) && m < mask.query_end(n));
      pairs += mask.visible(m, n);
    }
  }
  const ColReduce::Problem problem{
      .B = 2, .H = 3, .M = M, .N = N, .D = 5, .mask = kind, .window = window};
  ASSERT_EQ(ColReduce::work(problem).exponentials, static_cast<double>(6 * pairs));
  ASSERT_EQ(ColReduce::work(problem).mma_flops, static_cast<double>(6 * pairs * 2 * 5));
}

TEST(AttentionMask, AgreesWithItsDefinition) {
  for (const Mask kind : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
    for (std::int64_t M = 1; M <= 9; ++M) {
      for (std::int64_t N = 1; N <= 9; ++N) {
        for (std::int64_t window = -1; window <= 10; ++window)
          expect_definition(kind, window, M, N);
      }
    }
  }
}

/// What a problem of one head and its work() say, by counting.
void expect_counts(const ColReduce::Problem& p) {
  const AttentionMask mask = p.attention_mask();
  std::int64_t pairs = 0;
  std::int64_t rows = 0;
  std::int64_t keys = 0;
  for (std::int64_t n = 0; n < p.N; ++n) {
    std::int64_t seen = 0;
    for (std::int64_t m = p.query_begin; m < p.query_end; ++m) seen += mask.visible(m, n);
    ASSERT_EQ(p.contributing(n).count(), seen);
    pairs += seen;
    keys += seen > 0;
  }
  for (std::int64_t m = p.query_begin; m < p.query_end; ++m) {
    bool sees = false;
    for (std::int64_t n = 0; n < p.N; ++n) sees = sees || mask.visible(m, n);
    rows += sees;
  }
  const Work work = ColReduce::work(p);
  ASSERT_EQ(work.exponentials, static_cast<double>(pairs));
  ASSERT_EQ(work.bytes, static_cast<double>((rows + keys) * p.D * 2 + p.N * 4));
}

TEST(Contributing, RangesAndWorkAgreeWithCounting) {
  for (const Mask kind : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
    for (const auto& [M, N] : {std::pair{5, 8}, {8, 5}, {6, 6}, {1, 4}, {4, 1}}) {
      for (std::int64_t begin = 0; begin < M; ++begin) {
        for (std::int64_t end = begin + 1; end <= M; ++end) {
          for (const std::int64_t window : {-1, 0, 1, 3}) {
            expect_counts({.M = M,
                           .N = N,
                           .D = 4,
                           .mask = kind,
                           .query_begin = begin,
                           .query_end = end,
                           .window = window});
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace attn
