// The sequences of the tensor-core passes: a pure function of the problem, against its parts.
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <tuple>
#include <vector>

#include "impls/colreduce/mma_sequences.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;
using Pair = std::tuple<std::int64_t, std::int64_t, std::int64_t>;  // batch, row of q, row of k

/// All pairs of rows of the tensors that see each other, by the problem's parts.
std::set<Pair> pairs_of_parts(const Problem& p) {
  std::set<Pair> pairs;
  for (const ColReduce::Part& part : ColReduce::parts(p)) {
    const AttentionMask mask = part.problem.attention_mask();
    const RowRange rows = part.problem.contributing();
    for (std::int64_t b = 0; b < part.problem.B; ++b)
      for (std::int64_t m = rows.begin; m < rows.end; ++m)
        for (std::int64_t n = 0; n < part.problem.N; ++n)
          if (mask.visible(m, n))
            pairs.insert({part.batch + b, part.q_first + m, part.k_first + n});
  }
  return pairs;
}

std::set<Pair> pairs_of_sequences(const std::vector<PassSequence>& sequences) {
  std::set<Pair> pairs;
  for (const PassSequence& s : sequences) {
    for (int b = 0; b < s.repeats; ++b)
      for (int m = 0; m < s.M; ++m)
        for (int n = 0; n < s.N; ++n)
          if (s.mask().visible(m, n)) pairs.insert({s.batch + b, s.q_row + m, s.k_row + n});
  }
  return pairs;
}

/// Problems cut in every way.
std::vector<Problem> cut_problems() {
  std::vector<Problem> problems;
  for (const Mask mask : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
    for (const std::int64_t window : {-1, 0, 3, 100}) {
      Problem p{.B = 3, .H = 2, .M = 9, .N = 13, .D = 8, .mask = mask, .window = window};
      problems.push_back(p);
      p.query_begin = 4;
      p.query_end = 7;
      problems.push_back(p);
      p.q_len = {9, 0, 6};
      p.kv_len = {5, 13, 13};
      problems.push_back(p);
      p.q_len = {8, 8, 8};
      p.kv_len = {};
      p.query_begin = -5;
      p.query_end = -1;
      problems.push_back(p);
      Problem packed{.H = 2, .M = 12, .N = 15, .D = 8, .mask = mask, .window = window};
      packed.cu_q = {0, 5, 5, 12};
      packed.cu_k = {0, 1, 9, 15};
      problems.push_back(packed);
      packed.query_begin = 2;
      packed.query_end = 4;
      problems.push_back(packed);
    }
  }
  return problems;
}

TEST(PassSequences, SeeWhatThePartsSee) {
  for (const Problem& p : cut_problems())
    EXPECT_EQ(pairs_of_sequences(pass_sequences(p)), pairs_of_parts(p));
}

TEST(PassSequences, EveryContributingQueryHasItsOwnLse) {
  for (const Problem& p : cut_problems()) {
    const std::vector<PassSequence> sequences = pass_sequences(p);
    std::set<std::int64_t> taken;
    for (const PassSequence& s : sequences)
      for (int b = s.batch; b < s.batch + s.repeats; ++b)
        for (std::int64_t h = 0; h < p.H; ++h)
          for (int m = 0; m < s.M; ++m) taken.insert(s.lse_offset(b, h, p.H) + m);
    const std::int64_t rows = p.H * compact_rows(sequences);
    ASSERT_EQ(taken.size(), static_cast<std::size_t>(rows));
    EXPECT_EQ(*taken.begin(), 0);
    EXPECT_EQ(*taken.rbegin(), rows - 1);
  }
}

TEST(PassSequences, BatchesCutAlikeAreOne) {
  Problem p{.B = 4, .M = 9, .N = 13, .D = 8};
  EXPECT_TRUE(is_uniform(p, pass_sequences(p)));
  p.q_len = {7, 7, 7, 7};
  EXPECT_TRUE(is_uniform(p, pass_sequences(p)));
  p.q_len = {7, 7, 9, 7};
  EXPECT_EQ(pass_sequences(p).size(), 3U);
  EXPECT_FALSE(is_uniform(p, pass_sequences(p)));
  p.q_len = {};
  p.kv_len = {12, 12, 12, 12};
  EXPECT_FALSE(is_uniform(p, pass_sequences(p))) << "one column of each head belongs to nobody";
  p.kv_len = {0, 0, 0, 0};
  EXPECT_TRUE(pass_sequences(p).empty());
}

TEST(PassSequences, TheLongestComeFirst) {
  const Problem p{.M = 100, .N = 100, .D = 8, .cu_q = {0, 3, 90, 100}, .cu_k = {0, 3, 90, 100}};
  const std::vector<PassSequence> sequences = pass_sequences(p);
  ASSERT_EQ(sequences.size(), 3U);
  EXPECT_EQ(sequences[0].M, 87);
  EXPECT_EQ(sequences[2].M, 3);
  EXPECT_EQ(longest(sequences, &PassSequence::N), 87);
  EXPECT_EQ(tiles_of(sequences, &PassSequence::N, 64), 2 + 1 + 1);
}

TEST(PassSequences, AWindowThatHidesNoKeyIsNone) {
  Problem p{.M = 9, .N = 13, .D = 8, .mask = Mask::kCausal, .window = 12};
  EXPECT_FALSE(is_windowed(pass_sequences(p)));
  p.window = 11;
  EXPECT_TRUE(is_windowed(pass_sequences(p)));
}

/// 150 sequences with 1, 2 and 3 items in turn: two full lists and the rest.
TEST(PassSequences, EveryItemOfALaunchIsFoundInItsSequence) {
  std::vector<PassSequence> sequences(150);
  for (std::size_t i = 0; i < sequences.size(); ++i) sequences[i].M = static_cast<int>(i % 3 + 1);
  const auto items = [](const PassSequence& s) { return std::int64_t{s.M}; };
  const std::vector<SequenceList> lists = launch_lists(sequences, items);
  ASSERT_EQ(lists.size(), 3U);
  EXPECT_EQ(lists[2].count, 150 - 2 * SequenceList::kMost);
  for (const SequenceList& list : lists) {
    std::uint32_t index = 0;
    for (int i = 0; i < list.count; ++i)
      for (int item = 0; item < list.of[i].M; ++item) EXPECT_EQ(list.find(index++), i);
    EXPECT_EQ(index, list.items);
  }
}

}  // namespace
}  // namespace attn::colreduce
