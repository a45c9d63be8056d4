// Mixed rows of a group, on tensor cores or on FMA pipes, and the memory of its team.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "impls/attnres/bulk_config.h"
#include "impls/attnres/mixed_rows.cuh"
#include "impls/attnres/team.cuh"
#include "impls/attnres_phase1/bulk_sm90.h"

namespace attn::attnres_phase1 {
namespace bulk {

using attnres::ColumnRange;
using attnres::kColumns;
using attnres::Team;

/// What a kernel is compiled for: groups of so many tiles of eight rows (0: any number), and warps that mix so
/// many chunks of columns at a time.
template <int kTilesOf, int kChunksOf>
struct GroupShape {
  static constexpr int kTiles = kTilesOf;
  static constexpr int kChunks = kChunksOf;
  static constexpr int kTeams = BulkShape{kTilesOf, kChunksOf}.teams();
  static constexpr int kThreads = 32 * attnres::kTeamWarps * kTeams;
};

inline constexpr int kPackedTiles = -1;  ///< of mix_block

/// What a team works in, behind the stages.
struct TeamMemory {
  float* products;           // [warps, query rows + 1, pitch]
  float* totals;             // [S + 1, pitch]: inner products of whole queries, then r
  float* weights;            // [rows of a group, S rounded up]
  attnres::TermTiles terms;  // the same for tensor cores; zeros where an output has none of a row
  PairSoftmax* pairs;        // [tokens, S]
  float* slots;              // of the exchange

  __device__ static TeamMemory of(const attnres::BulkConfig& config,
                                  const BulkSums& sums,
                                  const Team& team,
                                  char* memory) {
    TeamMemory own{};
    own.products =
        reinterpret_cast<float*>(memory + config.rest_offset()) + team.index * sums.team_floats();
    own.totals = own.products + attnres::kTeamWarps * sums.warp_floats;
    own.weights = own.totals + sums.total_floats;
    own.terms = {
        reinterpret_cast<std::uint32_t*>(own.weights + sums.weight_floats), sums.term_tiles,
        config.group_rows > attnres::kTileRows && config.group_rows <= attnres::kPackedRows};
    own.pairs = reinterpret_cast<PairSoftmax*>(own.terms.words + sums.term_words);
    own.slots = reinterpret_cast<float*>(own.pairs) + sums.pair_words;
    return own;
  }
};

/// Tokens whose rows a team has in a stage.
struct StagedGroup {
  const char* stage;
  ColumnRange range;   // of this CTA
  std::int64_t token;  // the first
  int tokens;
};

/// The mixed rows of a block of outputs of a group of kTilesOf tiles of rows (0: any number; kPackedTiles: two with
/// packed terms), on tensor cores; warps take kChunks chunks in turn. Of few tiles the weights stay in registers, and
/// a chunk's columns come while the one before is mixed.
///
/// A lane has eight columns of two outputs of a chunk. Of a pair's second chunk outputs are swapped, so that two
/// neighbouring lanes have two chunks of one output, and 16 lanes 256 bytes of it. Half as many rows are open
/// at a time by that, and half again as blocks follow each other: memory is the faster for both.
template <class T, class U, int kTilesOf, int kChunks>
__device__ inline void mix_block(const BulkArguments& p,
                                 const BulkSums& sums,
                                 const Team& team,
                                 const TeamMemory& own,
                                 const StagedGroup& staged,
                                 int block) {
  constexpr int kOutputs = 2 * kChunks;                             // of a lane and block
  constexpr int kGroups = attnres::kChunkColumns / kColumns;        // of a chunk
  constexpr int kStride = attnres::kTeamWarps * kChunks * kGroups;  // to the warp's next chunks
  constexpr bool kPacked = kTilesOf == kPackedTiles;
  constexpr int kTiles = kPacked ? 1 : kTilesOf;  // that come and are multiplied one by one
  constexpr int kHeld = std::max(1, kTiles);
  using Columns = std::conditional_t<kPacked, attnres::PackedColumns, attnres::ChunkColumns>;
  using Terms = std::conditional_t<kPacked, attnres::PackedTerms, attnres::LaneTerms>;
  const std::int64_t plane = p.tokens * p.D;
  const ColumnRange& range = staged.range;
  const int s =  // the lane's first output
      block % sums.query_blocks * attnres::kTileRows + team.lane % 4 / kChunks * kOutputs;
  const std::int64_t t = staged.token + block / sums.query_blocks;
  U* const to = static_cast<U*>(p.out) + (s * p.tokens + t) * p.D + range.first * kColumns;
  const auto load = [&](int tile, int first) {
    const int column = min(first + team.lane / 4, range.count - 1) * 16;
    return Columns::load(staged.stage, p.config.row_bytes(), p.config.group_rows, tile, column,
                         team.lane);
  };
  const auto terms = [&](int chunk, int tile) {
    return Terms::load(own.terms.tile(block, tile), team.lane, chunk == 1);
  };
  Terms held[kChunks][kHeld];
  Columns next[kHeld];
  int first = team.warp * kChunks * kGroups;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    next[tile] = load(tile, first);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) held[chunk][tile] = terms(chunk, tile);
  }
  for (; first < range.count; first += kStride) {
    attnres::HeldGroup<U> mixed[kChunks][2];
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int here = first + chunk * kGroups;
      attnres::ChunkSums rows = {};
      if constexpr (kTiles == 0) {
#pragma unroll 1
        for (int tile = 0; tile < sums.term_tiles; ++tile) {
          attnres::add_weighted_rows<T>(load(tile, here), terms(chunk, tile), rows);
        }
      } else {
        Columns columns[kHeld];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          columns[tile] = next[tile];
          next[tile] = load(tile, chunk + 1 < kChunks ? here + kGroups : first + kStride);
        }
        if constexpr (kTiles == 1) {
          attnres::add_weighted_rows<T>(columns[0], held[chunk][0], rows);
        } else {
          attnres::add_weighted_rows<T>(columns, held[chunk], rows);
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float x[kColumns];
        attnres::take_columns<T>(rows, i, x);
        mixed[chunk][i].set_columns(x);
      }
    }
#pragma unroll
    for (int output = 0; output < kOutputs; ++output) {
      const bool second = kChunks == 2 && output / 2 != team.lane % 2;
      const int group = first + (second ? kGroups : 0) + team.lane / 4;
      const attnres::HeldGroup<U> columns =
          second ? mixed[kChunks - 1][output % 2] : mixed[0][output % 2];
      if (group < range.count && s + output < p.S) columns.store_cached(to + output * plane, group);
    }
  }
}

/// The mixed rows of a group on tensor cores, block by block: of fp32 outputs, which have twice the bytes and
/// registers, one chunk at a time.
template <class T, class U, class Shape>
__device__ inline void mix_tiles(const BulkArguments& p,
                                 const BulkSums& sums,
                                 const Team& team,
                                 const TeamMemory& own,
                                 const StagedGroup& staged) {
  constexpr int kChunks = sizeof(U) == 4 ? 1 : Shape::kChunks;
  for (int block = 0; block < p.config.tokens * sums.query_blocks; ++block) {
    if (Shape::kTiles == 2 && own.terms.packed) {
      mix_block<T, U, kPackedTiles, kChunks>(p, sums, team, own, staged, block);
    } else {
      mix_block<T, U, Shape::kTiles, kChunks>(p, sums, team, own, staged, block);
    }
  }
}

/// The same on FMA pipes, any values: one query of one token after the other.
template <class T, class U>
__device__ inline void mix_rows(const BulkArguments& p,
                                const BulkSums& sums,
                                const Team& team,
                                const TeamMemory& own,
                                const StagedGroup& staged) {
  for (int output = 0; output < staged.tokens * p.S; ++output) {
    const int t = output / p.S;
    const int s = output % p.S;
    U* to = static_cast<U*>(p.out) + (s * p.tokens + staged.token + t) * p.D;
    for (int group = team.thread; group < staged.range.count; group += team.threads()) {
      float mixed[kColumns];
#pragma unroll
      for (float& x : mixed) x = -0.0f;  // one source comes out bit for bit
      for (int row = t * p.N; row < (t + 1) * p.N; ++row) {
        float x[kColumns];
        const char* from = staged.stage + row * p.config.row_bytes() + group * 16;
        load_vector(reinterpret_cast<const T*>(from), x);
        const float weight = own.weights[row * sums.weight_pitch + s];
#pragma unroll
        for (int i = 0; i < kColumns; ++i) mixed[i] += weight * x[i];
      }
      attnres::store_group(to, staged.range.first + group, mixed);
    }
  }
}

}  // namespace bulk
}  // namespace attn::attnres_phase1
