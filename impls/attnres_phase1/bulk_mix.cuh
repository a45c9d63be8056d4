// Mixed rows of a group, on tensor cores or on FMA pipes, and the memory of its team.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

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
  static constexpr int kTeams = attnres::teams_of(8 * kTiles);
  static constexpr int kThreads = 32 * attnres::kTeamWarps * kTeams;
};

/// What a team works in, behind the stages.
struct TeamMemory {
  float* products;           // [warps, query rows + 1, pitch]
  float* totals;             // [S + 1, pitch]: inner products of whole queries, then r
  float* weights;            // [rows of a group, S rounded up]
  attnres::TermTiles terms;  // the same for tensor cores; zeros where an output has none of a row
  int* splits;               // [tokens, S]: all that the terms of a query need is there
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
    own.terms = {reinterpret_cast<std::uint32_t*>(own.weights + sums.weight_floats),
                 sums.term_tiles};
    own.splits = reinterpret_cast<int*>(own.terms.words + sums.term_words);
    own.slots = reinterpret_cast<float*>(own.splits + sums.pair_words);
    return own;
  }
};

/// The mixed rows of kBlocks blocks of outputs from `block` on, of a group of kTiles tiles of rows (0: any
/// number), on tensor cores; warps take kChunks chunks in turn. Of few tiles the weights stay in registers, and
/// a chunk's columns come while the one before is mixed.
///
/// A lane has eight columns of two outputs of a chunk. Of a pair's second chunk outputs are swapped, so that two
/// neighbouring lanes have two chunks of one output, and 16 lanes 256 bytes of it: half as many rows are
/// open at a time, and memory is the faster for it.
template <class T, class U, int kBlocks, int kTiles, int kChunks>
__device__ inline void mix_blocks(const BulkArguments& p,
                                  const BulkSums& sums,
                                  const Team& team,
                                  const TeamMemory& own,
                                  const char* stage,
                                  const ColumnRange& range,
                                  std::int64_t token,
                                  int block) {
  constexpr int kOutputs = 2 * kChunks;                             // of a lane and block
  constexpr int kGroups = attnres::kChunkColumns / kColumns;        // of a chunk
  constexpr int kStride = attnres::kTeamWarps * kChunks * kGroups;  // to the warp's next chunks
  constexpr int kHeld = std::max(1, kTiles);
  const std::int64_t plane = p.tokens * p.D;
  U* to[kBlocks];    // the lane's first output of a block
  int has[kBlocks];  // of its outputs
#pragma unroll
  for (int i = 0; i < kBlocks; ++i) {
    const int s =
        (block + i) % sums.query_blocks * attnres::kTileRows + team.lane % 4 / kChunks * kOutputs;
    const std::int64_t t = token + (block + i) / sums.query_blocks;
    has[i] = p.S - s;
    to[i] = static_cast<U*>(p.out) + (s * p.tokens + t) * p.D + range.first * kColumns;
  }
  const auto load = [&](int tile, int first) {
    return attnres::ChunkColumns::load(stage, p.config.row_bytes(), p.config.group_rows, tile,
                                       min(first + team.lane / 4, range.count - 1) * 16, team.lane);
  };
  const auto terms = [&](int chunk, int i, int tile) {
    return attnres::LaneTerms::load(own.terms.tile(block + i, tile), team.lane, chunk == 1);
  };
  attnres::LaneTerms held[kChunks][kBlocks][kHeld];
  attnres::ChunkColumns next[kHeld];
  int first = team.warp * kChunks * kGroups;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    next[tile] = load(tile, first);
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) held[chunk][i][tile] = terms(chunk, i, tile);
    }
  }
  for (; first < range.count; first += kStride) {
    attnres::HeldGroup<U> mixed[kChunks][kBlocks][2];
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int here = first + chunk * kGroups;
      attnres::ChunkSums rows[kBlocks] = {};
      if constexpr (kTiles == 0) {
#pragma unroll 1
        for (int tile = 0; tile < sums.term_tiles; ++tile) {
          const attnres::ChunkColumns columns = load(tile, here);
#pragma unroll
          for (int i = 0; i < kBlocks; ++i)
            attnres::add_weighted_rows<T>(columns, terms(chunk, i, tile), rows[i]);
        }
      } else {
        attnres::ChunkColumns columns[kHeld];
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          columns[tile] = next[tile];
          next[tile] = load(tile, chunk + 1 < kChunks ? here + kGroups : first + kStride);
        }
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
          if constexpr (kTiles == 1) {
            attnres::add_weighted_rows<T>(columns[0], held[chunk][i][0], rows[i]);
          } else {
            attnres::add_weighted_rows<T>(columns, held[chunk][i], rows[i]);
          }
        }
      }
#pragma unroll
      for (int i = 0; i < 2 * kBlocks; ++i) {
        float x[kColumns];
        attnres::take_columns<T>(rows[i / 2], i % 2, x);
        mixed[chunk][i / 2][i % 2].set_columns(x);
      }
    }
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
#pragma unroll
      for (int output = 0; output < kOutputs; ++output) {
        const bool second = kChunks == 2 && output / 2 != team.lane % 2;
        const int group = first + (second ? kGroups : 0) + team.lane / 4;
        const attnres::HeldGroup<U> columns =
            second ? mixed[kChunks - 1][i][output % 2] : mixed[0][i][output % 2];
        if (group < range.count && output < has[i]) columns.store(to[i] + output * plane, group);
      }
    }
  }
}

/// The mixed rows of a group on tensor cores: of 16-bit outputs two blocks at a time, where there are two; of fp32
/// ones, which have twice the bytes and registers, one block and one chunk.
template <class T, class U, class Shape>
__device__ inline void mix_tiles(const BulkArguments& p,
                                 const BulkSums& sums,
                                 const Team& team,
                                 const TeamMemory& own,
                                 const char* stage,
                                 const ColumnRange& range,
                                 std::int64_t token) {
  const int blocks = p.config.tokens * sums.query_blocks;
  const auto mix = [&]<int kBlocks, int kChunks>(std::integer_sequence<int, kBlocks, kChunks>,
                                                 int block) {
    mix_blocks<T, U, kBlocks, Shape::kTiles, kChunks>(p, sums, team, own, stage, range, token,
                                                      block);
  };
  if constexpr (sizeof(U) == 4) {
    for (int block = 0; block < blocks; ++block) mix(std::integer_sequence<int, 1, 1>{}, block);
  } else {
    int block = 0;
    for (; block + 1 < blocks; block += 2)
      mix(std::integer_sequence<int, 2, Shape::kChunks>{}, block);
    if (block < blocks) mix(std::integer_sequence<int, 1, Shape::kChunks>{}, block);
  }
}

/// The same on FMA pipes, any values: one query of one token after the other.
template <class T, class U>
__device__ inline void mix_rows(const BulkArguments& p,
                                const BulkSums& sums,
                                const Team& team,
                                const TeamMemory& own,
                                const char* stage,
                                const ColumnRange& range,
                                std::int64_t token,
                                int tokens) {
  for (int output = 0; output < tokens * p.S; ++output) {
    const int t = output / p.S;
    const int s = output % p.S;
    U* to = static_cast<U*>(p.out) + (s * p.tokens + token + t) * p.D;
    for (int group = team.thread; group < range.count; group += team.threads()) {
      float mixed[kColumns];
#pragma unroll
      for (float& x : mixed) x = -0.0f;  // one source comes out bit for bit
      for (int row = t * p.N; row < (t + 1) * p.N; ++row) {
        float x[kColumns];
        load_vector(reinterpret_cast<const T*>(stage + row * p.config.row_bytes() + group * 16), x);
        const float weight = own.weights[row * sums.weight_pitch + s];
#pragma unroll
        for (int i = 0; i < kColumns; ++i) mixed[i] += weight * x[i];
      }
      attnres::store_group(to, range.first + group, mixed);
    }
  }
}

}  // namespace bulk
}  // namespace attn::attnres_phase1
