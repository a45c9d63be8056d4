// Masks against their definitions in words, by brute force over every small shape.
#include <gtest/gtest.h>

#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn {
namespace {

bool visible_by_definition(
    Mask mask, std::int64_t m, std::int64_t n, std::int64_t M, std::int64_t N) {
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

TEST(AttentionMask, AgreesWithItsDefinition) {
  for (const Mask kind : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
    for (std::int64_t M = 1; M <= 9; ++M) {
      for (std::int64_t N = 1; N <= 9; ++N) {
        const AttentionMask mask = AttentionMask::make(kind, M, N);
        std::int64_t pairs = 0;
        for (std::int64_t m = 0; m < M; ++m) {
          std::int64_t row = 0;
          for (std::int64_t n = 0; n < N; ++n) {
            ASSERT_EQ(mask.visible(m, n), visible_by_definition(kind, m, n, M, N));
            ASSERT_EQ(mask.visible(m, n), n < mask.key_end(m));
            ASSERT_EQ(mask.visible(m, n), m >= mask.query_begin(n));
            row += mask.visible(m, n);
          }
          ASSERT_EQ(row, mask.key_end(m));
          pairs += row;
        }
        const ColReduce::Problem problem{.B = 2, .H = 3, .M = M, .N = N, .D = 5, .mask = kind};
        ASSERT_EQ(ColReduce::work(problem).exponentials, static_cast<double>(6 * pairs));
        ASSERT_EQ(ColReduce::work(problem).mma_flops, static_cast<double>(6 * pairs * 2 * 5));
      }
    }
  }
}

/// What Problem and work() say of every query range, by counting.
TEST(Contributing, RangesAndWorkAgreeWithCounting) {
  for (const Mask kind : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
    for (const auto& [M, N] : {std::pair{5, 8}, {8, 5}, {6, 6}, {1, 4}, {4, 1}}) {
      for (std::int64_t begin = 0; begin < M; ++begin) {
        for (std::int64_t end = begin + 1; end <= M; ++end) {
          const ColReduce::Problem p{
              .M = M, .N = N, .D = 4, .mask = kind, .query_begin = begin, .query_end = end};
          const AttentionMask mask = p.attention_mask();
          std::int64_t pairs = 0;
          std::int64_t rows = 0;
          std::int64_t keys = 0;
          for (std::int64_t n = 0; n < N; ++n) {
            std::int64_t seen = 0;
            for (std::int64_t m = begin; m < end; ++m) seen += mask.visible(m, n);
            ASSERT_EQ(p.contributing(n).count(), seen);
            pairs += seen;
            keys += seen > 0;
          }
          for (std::int64_t m = begin; m < end; ++m) {
            bool sees = false;
            for (std::int64_t n = 0; n < N; ++n) sees = sees || mask.visible(m, n);
            rows += sees;
          }
          const Work work = ColReduce::work(p);
          ASSERT_EQ(work.exponentials, static_cast<double>(pairs));
          ASSERT_EQ(work.bytes, static_cast<double>((rows + keys) * 8 + N * 4));
        }
      }
    }
  }
}

}  // namespace
}  // namespace attn
