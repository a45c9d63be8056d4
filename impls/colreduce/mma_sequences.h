// The sequences of a batch as the tensor-core passes take them: a pure function of the problem,
// tested without a GPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "harness/core/host_device.h"
#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

/// One sequence: its contributing queries, counted from 0, and its keys. Batches that follow each
/// other and are cut alike are one sequence that repeats.
struct PassSequence {
  int batch = 0;             ///< of the tensors; the first of the repeats
  int repeats = 1;           ///< batches batch, batch + 1, ...
  int q_row = 0;             ///< its first contributing query among the rows of q and of an lse
  int k_row = 0;             ///< its first key among the rows of k and the columns of the output
  int M = 1;                 ///< contributing queries
  int N = 1;                 ///< keys
  int diagonal = 0;          ///< of its AttentionMask
  int left = 0;              ///< the same
  std::int64_t lse_row = 0;  ///< contributing queries of a head before these, in the workspace
  std::uint32_t first_item = 0;  ///< of a launch, whatever its items are

  ATTN_HOST_DEVICE AttentionMask mask() const { return {M, N, diagonal, left}; }
  /// Where the lse of query 0 of a head lies in a workspace of compact rows.
  ATTN_HOST_DEVICE std::int64_t lse_offset(std::int64_t b, std::int64_t h, std::int64_t H) const {
    return (lse_row + (b - batch) * M) * H + h * M;
  }
  bool is_cut_like(const PassSequence& other) const {
    return q_row == other.q_row && k_row == other.k_row && M == other.M && N == other.N &&
           diagonal == other.diagonal && left == other.left;
  }
};

/// The sequences of one launch, as kernels take them among their parameters.
struct SequenceList {
  static constexpr int kMost = 64;  // kernel parameters hold 4 KiB
  int count = 0;
  std::uint32_t items = 0;  ///< of all of them
  PassSequence of[kMost];

  /// The sequence that number `index` of the launch belongs to, counted by first_item.
  ATTN_HOST_DEVICE int find(std::uint32_t index) const {
    int first = 0;
    int last = count - 1;
    while (first < last) {
      const int middle = (first + last + 1) / 2;
      if (of[middle].first_item <= index) {
        first = middle;
      } else {
        last = middle - 1;
      }
    }
    return first;
  }
};

/// A bound of a mask with sizes of at most 2^30, in 32 bits: beyond them it cuts nothing, or all.
inline int mask_bound(std::int64_t bound) {
  constexpr std::int64_t kFar = std::int64_t{1} << 30;
  return static_cast<int>(std::clamp(bound, -kFar, kFar));
}

/// The sequences that have queries to reduce and keys, the longest first: what starts last should
/// be short. `first_item` is left to the launch.
inline std::vector<PassSequence> pass_sequences(const ColReduce::Problem& problem) {
  std::vector<PassSequence> sequences;
  for (const ColReduce::Part& part : ColReduce::parts(problem)) {
    const RowRange rows = part.problem.contributing();
    const AttentionMask mask = part.problem.contributing_mask();
    const PassSequence own{.batch = static_cast<int>(part.batch),
                           .repeats = static_cast<int>(part.problem.B),
                           .q_row = static_cast<int>(part.q_first + rows.begin),
                           .k_row = static_cast<int>(part.k_first),
                           .M = static_cast<int>(rows.count()),
                           .N = static_cast<int>(part.problem.N),
                           .diagonal = mask_bound(mask.diagonal),
                           .left = mask_bound(mask.left)};
    PassSequence* last = sequences.empty() ? nullptr : &sequences.back();
    if (last && own.is_cut_like(*last) && own.batch == last->batch + last->repeats) {
      ++last->repeats;
    } else {
      sequences.push_back(own);
    }
  }
  std::int64_t lse_row = 0;
  for (PassSequence& sequence : sequences) {
    sequence.lse_row = lse_row;
    lse_row += std::int64_t{sequence.repeats} * sequence.M;
  }
  std::stable_sort(sequences.begin(), sequences.end(), [](const auto& a, const auto& b) {
    return std::int64_t{a.M} + a.N > std::int64_t{b.M} + b.N;
  });
  return sequences;
}

/// Lists of at most SequenceList::kMost sequences, in order. `items(sequence)` is how many of the
/// launch's items are a sequence's.
template <class Items>
std::vector<SequenceList> launch_lists(const std::vector<PassSequence>& sequences, Items&& items) {
  std::vector<SequenceList> lists;
  std::int64_t counted = 0;
  for (const PassSequence& sequence : sequences) {
    if (lists.empty() || lists.back().count == SequenceList::kMost) {
      lists.emplace_back();
      counted = 0;
    }
    SequenceList& list = lists.back();
    PassSequence& own = list.of[list.count++] = sequence;
    own.first_item = static_cast<std::uint32_t>(counted);
    counted += items(sequence);
    list.items = static_cast<std::uint32_t>(counted);
  }
  return lists;
}

/// Contributing queries of a head, over all sequences.
inline std::int64_t compact_rows(const std::vector<PassSequence>& sequences) {
  std::int64_t rows = 0;
  for (const PassSequence& sequence : sequences)
    rows += std::int64_t{sequence.repeats} * sequence.M;
  return rows;
}

/// PassSequence::M or N.
using RowCount = int PassSequence::*;

/// Tiles of `tile` rows over all sequences, of one head.
inline std::int64_t tiles_of(const std::vector<PassSequence>& sequences, RowCount rows, int tile) {
  std::int64_t tiles = 0;
  for (const PassSequence& sequence : sequences)
    tiles += std::int64_t{sequence.repeats} * ((std::int64_t{sequence.*rows} + tile - 1) / tile);
  return tiles;
}

/// The longest sequence's rows, at least 1.
inline int longest(const std::vector<PassSequence>& sequences, RowCount rows) {
  int most = 1;
  for (const PassSequence& sequence : sequences) most = std::max(most, sequence.*rows);
  return most;
}

/// Whether the passes need no kernel with options for these sequences: all batches are cut alike
/// and have every column of the output.
inline bool is_uniform(const ColReduce::Problem& problem,
                       const std::vector<PassSequence>& sequences) {
  return sequences.size() == 1 && sequences[0].repeats == problem.B && sequences[0].N == problem.N;
}

/// Whether a left bound hides any key from any query.
inline bool is_windowed(const std::vector<PassSequence>& sequences) {
  return std::any_of(sequences.begin(), sequences.end(),
                     [](const PassSequence& s) { return s.M - 1 + std::int64_t{s.left} > 0; });
}

}  // namespace attn::colreduce
