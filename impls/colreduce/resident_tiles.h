// How the row-resident kernels divide a head: which keys a CTA owns, which query tiles it takes.
// Pure functions, the same on host and device.
#pragma once

#include <cstdint>

#include "harness/core/host_device.h"
#include "reference/attention_mask.h"

namespace attn::colreduce {

inline constexpr int kTileRows = 64;  ///< queries of a tile: the rows of one wgmma
inline constexpr int kChunkBits = 6;
inline constexpr int kChunkKeys = 1 << kChunkBits;  ///< keys of a chunk: the columns of one wgmma

/// A count of chunks that grows by one from tile to tile, between 0 and `most`. Score groups ask for it several
/// times a tile, one after the other: a few 32-bit instructions instead of a mask's long chain of 64-bit ones.
struct ChunkCount {
  int first = 0;  ///< of tile 0, but for the bounds
  int most = 0;

  ATTN_HOST_DEVICE constexpr int at(int tile) const {
    const int count = first + tile;
    return count < 0 ? 0 : count < most ? count : most;
  }
  /// The first tile with a chunk, if any has one.
  ATTN_HOST_DEVICE constexpr int first_tile() const { return first > 0 ? 0 : 1 - first; }
};

/// The CTAs of a team share a head: rank r owns chunk r of the first `ranks` chunks, then, going
/// back, chunk 2 ranks - 1 - r, and so on in a zigzag. Under a causal mask a tile sees a prefix of
/// the chunks, so that the ranks of a team always work on equally many of them, give or take one.
struct TeamTiles {
  AttentionMask mask;
  int ranks = 1;
  int rank = 0;

  ATTN_HOST_DEVICE constexpr int tiles() const {
    return static_cast<int>((mask.M + kTileRows - 1) / kTileRows);
  }
  /// First key of this rank's chunk j.
  ATTN_HOST_DEVICE constexpr int first_key(int j) const {
    return (j * ranks + (j % 2 == 0 ? rank : ranks - 1 - rank)) * kChunkKeys;
  }
  /// Chunks of the head, over all ranks, that some query of the tile sees.
  ATTN_HOST_DEVICE constexpr int visible_chunks(int tile) const {
    if (mask.diagonal >= mask.N) return static_cast<int>((mask.N + kChunkKeys - 1) / kChunkKeys);
    const std::int64_t end = static_cast<std::int64_t>(tile + 1) * kTileRows;
    const std::int64_t keys = mask.key_end((end < mask.M ? end : mask.M) - 1);
    return static_cast<int>((keys + kChunkKeys - 1) / kChunkKeys);
  }
  /// visible_chunks by tile. Shifts, because they round down below 0 too.
  ATTN_HOST_DEVICE constexpr ChunkCount visible() const {
    static_assert(kTileRows == kChunkKeys, "a tile further on, a chunk more is seen");
    return {static_cast<int>((mask.diagonal + kTileRows + kChunkKeys - 1) >> kChunkBits),
            visible_chunks(tiles() - 1)};
  }
  /// Chunks that every query of a tile sees from the first key to the last.
  ATTN_HOST_DEVICE constexpr ChunkCount whole() const {
    return {static_cast<int>((mask.diagonal + 1) >> kChunkBits),
            static_cast<int>(mask.N / kChunkKeys)};
  }
  /// How many of this rank's chunks, at most kMost, are among the `visible` first of the head.
  template <int kMost>
  ATTN_HOST_DEVICE constexpr int own_chunks(int visible) const {
    int count = 0;
    for (int j = 0; j < kMost; ++j) count += first_key(j) < visible * kChunkKeys ? 1 : 0;
    return count;
  }
  /// Ranks that own a visible chunk: those below this number.
  ATTN_HOST_DEVICE constexpr int participants(int visible) const {
    return visible < ranks ? visible : ranks;
  }
};

/// Which heads a team has, one after the other: every teams-th slice of `slice` heads, which are of one
/// output head and add up.
struct TeamHeads {
  int team = 0;
  int teams = 1;
  int slice = 1;

  /// Heads of the team of `heads`, a multiple of `slice`.
  ATTN_HOST_DEVICE constexpr int rounds(int heads) const {
    return (heads / slice - team + teams - 1) / teams * slice;
  }
  ATTN_HOST_DEVICE constexpr int slice_of(int round) const { return round / slice * teams + team; }
  ATTN_HOST_DEVICE constexpr int head_of(int round) const {
    return slice_of(round) * slice + round % slice;
  }
};

/// Where a team is among its slices, counted from head to head: no divisions.
struct SliceCursor {
  int slice;  ///< under way
  int left;   ///< of its heads

  ATTN_HOST_DEVICE constexpr explicit SliceCursor(const TeamHeads& heads)
      : slice(heads.team), left(heads.slice) {}
  /// One head more is done: whether it was the slice's last.
  ATTN_HOST_DEVICE constexpr bool finish_head() { return --left == 0; }
  ATTN_HOST_DEVICE constexpr void advance(const TeamHeads& heads) {
    slice += heads.teams;
    left = heads.slice;
  }
};

}  // namespace attn::colreduce
