// Roles, shared memory and barriers of the row-resident kernel.
#pragma once

#include <cstdint>

#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/colreduce/resident_sm90.h"
#include "impls/colreduce/resident_tiles.h"

namespace attn::colreduce {

/// Warpgroups of a CTA: crews of score groups turn a tile of queries and the CTA's keys into weights, its groups
/// taking the chunks in turn; service warps load tiles and learn the rows' normalisers from the team; column warps
/// reduce the weights over the queries.
inline constexpr int kExchangeWarps = 3;  // of the four service warps; the last one loads
inline constexpr int kColumnWarps = 4;
/// Column warps that share a chunk by its keys: many tiles have fewer chunks than there are warps.
inline constexpr int kSharers = 2;
inline constexpr int kOtherGroups = 2;  // warpgroups besides the score groups

/// Sizes, in tiles of 64 queries and chunks of 64 keys.
template <int kD_,
          int kCrews_,
          int kCrewGroups_,
          int kQuerySlots_,
          int kChunks_,
          int kKeySlots_,
          int kWeightSlots_,
          bool kStreamKeys_,
          bool kMasked_>
struct ResidentPolicy {
  static constexpr int kD = kD_;          // head dimension, zero-padded to steps of products
  static constexpr int kCrews = kCrews_;  // of score groups; tiles go round
  static constexpr int kCrewGroups = kCrewGroups_;    // of a crew: they share a tile
  static constexpr int kQuerySlots = kQuerySlots_;    // tiles of queries in shared memory
  static constexpr int kChunks = kChunks_;            // that a CTA owns of a head, at most
  static constexpr int kKeySlots = kKeySlots_;        // chunks of keys in shared memory
  static constexpr int kWeightSlots = kWeightSlots_;  // chunks of weights in shared memory
  static constexpr int kScoreGroups = kCrewGroups * kCrews;
  /// Whether some score may be hidden: by a mask, or past the last key in its chunk.
  static constexpr bool kMasked = kMasked_;
  /// Keys stream through rings, one a score group, instead of staying for all tiles of a head.
  static constexpr bool kStreamKeys = kStreamKeys_;

  static constexpr int kThreads = 128 * (kScoreGroups + kOtherGroups);
  /// Registers of a thread at launch: an SM's, in steps of eight; and what the roles go on with.
  static constexpr int kLaunchRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kPool = kLaunchRegisters * (kScoreGroups + kOtherGroups);
  /// Column warps with many chunks have many columns.
  static constexpr int kScoreRegisters = kScoreGroups == 2 ? 136 : kChunks > 4 ? 88 : 96;
  static constexpr int kOtherRegisters =
      (kPool - kScoreRegisters * kScoreGroups) / kOtherGroups / 8 * 8;

  static constexpr int kBoxes = (kD + 63) / 64;  // tensor-map boxes a tile or chunk
  static constexpr int kBoxBytes = 64 * 128;
  static constexpr int kTileBytes = kBoxes * kBoxBytes;  // of queries, and of a chunk of keys
  static constexpr int kWeightBytes = kTileRows * kChunkKeys * 2;
  static constexpr int kGroupKeySlots = kKeySlots / kCrewGroups;  // of a ring
  /// Tiles under way, from the scores to the columns.
  static constexpr int kTileSlots = 12 / kCrewGroups;
  static constexpr int kPoisonSlots = 4 * kTileSlots;
  /// Barriers of a slot of weights, for turns of the ring one after the other. A crew sees few of a slot's
  /// turns, and could not tell one from the next but one by a barrier's parity alone.
  static constexpr int kTurnBarriers = 4;

  struct Shared {
    unsigned char keys[kKeySlots][kTileBytes];
    unsigned char queries[kQuerySlots][kTileBytes];
    unsigned char weights[kWeightSlots][kWeightBytes];  // [query][key], fp16, swizzled
    /// Of a row, in the chunks of each group of the crew: log2 of what its exponentials are relative to, from a
    /// score group; then, in the same words in other order (factor_word), the factors that make them weights, from
    /// an exchange warp.
    alignas(16) std::uint32_t rows[kTileSlots][kCrewGroups][kTileRows];
    float sums[kTileSlots][kCrewGroups][kTileRows];  // of a row's exponentials
    int poison_end[kPoisonSlots];  // by head: keys before this one are poisoned by a NaN row
    std::uint64_t key_full[kKeySlots];
    std::uint64_t key_free[kKeySlots];
    std::uint64_t query_full[kCrews];
    std::uint64_t query_free[kQuerySlots];
    std::uint64_t weight_free[kWeightSlots][kTurnBarriers];
    std::uint64_t tile_full[kTileSlots];    // weights, references and sums are there
    std::uint64_t factor_full[kTileSlots];  // factors are there
    std::uint64_t tile_free[kTileSlots];    // the column warps are done
  };
  static constexpr int kSharedBytes = static_cast<int>(sizeof(Shared));

  static_assert(kD % 16 == 0, "a step of a product is 16 components wide");
  static_assert(kChunks * kSharers % kColumnWarps == 0, "column warps have as many chunks each");
  static_assert(kStreamKeys || kKeySlots == kChunks, "resident keys have a slot each");
  static_assert(!kStreamKeys || (kCrews == 1 && kKeySlots % kCrewGroups == 0),
                "a ring for each group");
  static_assert(kTileSlots % kCrews == 0 && kTileSlots % kExchangeWarps == 0,
                "crews and exchange warps see all phases of their slots");
  static_assert(kCrews % kQuerySlots == 0, "a crew has its tiles in one slot");
  static_assert(kTileSlots * kChunks + kChunks - 1 <= (kTurnBarriers + 1) * kWeightSlots,
                "what was in a slot so many turns ago is of a tile that is done");
  static_assert(kSharedBytes <= 227 * 1024, "shared memory of a CTA on sm_90");
};

/// What the threads of a CTA know of their work besides the arguments.
struct Team {
  TeamTiles tiles;
  int team = 0;
  int rounds = 0;       // heads of the team
  int row_tiles = 0;    // of a head
  int members = 0;      // ranks with a chunk that some query sees: they take part in every tile
  int first_tile = 0;   // of which some query sees a key; row_tiles where this rank is no member
  int used_chunks = 0;  // of this rank's chunks, those that some query sees
  ChunkCount visible;   // by tile, over all ranks: to some of its queries
  ChunkCount whole;     // to all of its queries
};

__device__ __forceinline__ TeamHeads heads_of(const ResidentArguments& args, const Team& team) {
  return {team.team, args.teams, args.slice};
}

/// This rank's chunks that some query of the tile sees; without a mask the same for all tiles.
template <class Policy>
__device__ __forceinline__ int active_chunks(const Team& team, int tile) {
  if constexpr (!Policy::kMasked) return team.used_chunks;
  return team.tiles.template own_chunks<Policy::kChunks>(team.visible.at(tile));
}

template <class Policy>
__device__ inline Team make_team(const ResidentArguments& args, unsigned cta) {
  Team team;
  const auto ranks = static_cast<unsigned>(args.ranks);
  team.tiles = {args.mask, args.ranks, static_cast<int>(cta % ranks)};
  team.team = static_cast<int>(cta / ranks);
  team.rounds = heads_of(args, team).rounds(args.heads);
  team.row_tiles = team.tiles.tiles();
  team.visible = team.tiles.visible();
  team.members = team.tiles.participants(team.visible.most);
  team.first_tile = team.tiles.rank < team.members ? team.visible.first_tile() : team.row_tiles;
  team.whole = team.tiles.whole();
  team.used_chunks = team.tiles.template own_chunks<Policy::kChunks>(team.visible.most);
  return team;
}

inline constexpr int kExchangeSlots = 2 * kExchangeWarps;  // of each ring in global memory
/// Of a line's 16 totals one in so many is used: additions to one line follow each other in L2. A row of 64 over 16
/// lines instead of 4 gained with 128 CTAs a head, and nothing up to 64.
inline constexpr int kTotalSpread = 4;

/// The tiles of a team in order: head after head, tile after tile.
struct TileCursor {
  int round = 0;  // of the team's heads
  int tile;
  std::uint32_t number;  // of the team's tiles, from 1: what the tile's packets carry
  int packet_slot = 0;

  __device__ explicit TileCursor(const Team& team)
      : tile(team.first_tile), number(static_cast<std::uint32_t>(team.first_tile) + 1) {}

  __device__ __forceinline__ bool first(const Team& team) const { return tile == team.first_tile; }
  __device__ __forceinline__ bool last(const Team& team) const {
    return tile + 1 == team.row_tiles;
  }

  __device__ __forceinline__ bool ended(const Team& team) const { return round >= team.rounds; }

  __device__ __forceinline__ void advance(const Team& team, int by = 1) {
    tile += by;
    number += static_cast<std::uint32_t>(by);
    packet_slot += by;
    while (tile >= team.row_tiles) {
      tile += team.first_tile - team.row_tiles;
      number += static_cast<std::uint32_t>(team.first_tile);
      ++round;
    }
    if (packet_slot >= kExchangeSlots) packet_slot -= kExchangeSlots;
  }
};

/// Waits, as a whole warp, for a barrier's phase.
__device__ __forceinline__ void wait_together(const std::uint64_t& barrier, std::uint32_t parity) {
  sm90::mbarrier_wait_warp(sm90::shared_address(&barrier), parity);
}

/// A warp's one arrival at a barrier, for what all its lanes have done.
__device__ __forceinline__ void release_together(std::uint64_t& barrier, int lane) {
  __syncwarp();
  if (lane == 0) sm90::mbarrier_arrive(sm90::shared_address(&barrier));
  __syncwarp();
}

/// A place in a ring of slots and how often the ring was passed.
struct RingCursor {
  int slot = 0;
  std::uint32_t turn = 0;

  /// By at most kMost slots.
  template <int kSlots, int kMost = kSlots>
  __device__ __forceinline__ void advance(int by = 1) {
    slot += by;
#pragma unroll
    for (int most = kMost; most > 0; most -= kSlots) {
      const bool wraps = slot >= kSlots;
      slot -= wraps ? kSlots : 0;
      turn += wraps ? 1 : 0;
    }
  }
  __device__ __forceinline__ std::uint32_t parity() const { return turn & 1; }
};

}  // namespace attn::colreduce
