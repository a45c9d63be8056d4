// What wgmma_sm90 makes of a problem: its sequences, and the order in which their tiles are worked
// through. Pure functions of the problem.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "impls/colreduce/visible_tiles.h"
#include "impls/colreduce/wgmma_choices.h"
#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

/// The contributing queries and the keys of one sequence, and where they lie.
struct WgmmaSequence {
  AttentionMask mask;  ///< between the contributing queries, mask.M of them, and the keys
  std::int32_t batch = 0;
  std::int32_t q_first = 0;    ///< row of the first contributing query in q
  std::int32_t k_first = 0;    ///< row of the first key in k
  std::int32_t lse_first = 0;  ///< of the first contributing query in a head's lse; 4 divides it
};

/// The sequences of a ragged problem; else one that stands for every batch.
struct WgmmaSequences {
  std::vector<WgmmaSequence> list;
  std::int64_t queries = 0;    ///< most contributing queries of a sequence
  std::int64_t keys = 0;       ///< most keys of a sequence
  std::int64_t lse_pitch = 0;  ///< floats from one head's lse to the next
};

inline WgmmaSequences sequences_of(const ColReduce::Problem& problem) {
  WgmmaSequences sequences;
  for (const ColReduce::Part& part : ColReduce::parts(problem)) {
    const RowRange queries = part.problem.contributing();
    const AttentionMask mask = part.problem.contributing_mask();
    const std::int64_t pitch = lse_pitch(mask.M);
    const std::int64_t lse_first = problem.is_packed() ? sequences.lse_pitch : 0;
    sequences.list.push_back({.mask = mask,
                              .batch = static_cast<std::int32_t>(part.batch),
                              .q_first = static_cast<std::int32_t>(part.q_first + queries.begin),
                              .k_first = static_cast<std::int32_t>(part.k_first),
                              .lse_first = static_cast<std::int32_t>(lse_first)});
    sequences.queries = std::max(sequences.queries, mask.M);
    sequences.keys = std::max(sequences.keys, mask.N);
    sequences.lse_pitch = std::max(sequences.lse_pitch, lse_first + pitch);
  }
  return sequences;
}

/// Whether the window hides a key from some contributing query.
inline bool window_cuts(const WgmmaSequences& sequences) {
  return std::any_of(sequences.list.begin(), sequences.list.end(), [](const WgmmaSequence& own) {
    return own.mask.key_begin(own.mask.M - 1) > 0;
  });
}

/// One stationary tile of a sequence.
struct WgmmaUnit {
  std::uint32_t sequence;
  std::uint32_t tile;
};

/// All stationary tiles, the longest first: whoever takes items in turn ends with short ones. A
/// tile holds `rows` queries and takes tiles of `stream_rows` keys; with `keys` it is the other way
/// round.
inline std::vector<WgmmaUnit> longest_first(const WgmmaSequences& sequences,
                                            bool keys,
                                            int rows,
                                            int stream_rows) {
  struct Timed {
    WgmmaUnit unit;
    int tiles;
  };
  std::vector<Timed> timed;
  for (std::size_t i = 0; i < sequences.list.size(); ++i) {
    const AttentionMask& mask = sequences.list[i].mask;
    const std::int64_t all = keys ? mask.N : mask.M;
    for (std::int64_t first = 0; first < all; first += rows) {
      const std::int64_t last = std::min(first + rows, all) - 1;
      const TileRange tiles = keys ? query_tiles(mask, first, last, stream_rows)
                                   : key_tiles(mask, first, last, stream_rows);
      timed.push_back({{static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(first / rows)},
                       tiles.count()});
    }
  }
  std::stable_sort(timed.begin(), timed.end(),
                   [](const Timed& a, const Timed& b) { return a.tiles > b.tiles; });
  std::vector<WgmmaUnit> units(timed.size());
  std::transform(timed.begin(), timed.end(), units.begin(), [](const Timed& t) { return t.unit; });
  return units;
}

}  // namespace attn::colreduce
