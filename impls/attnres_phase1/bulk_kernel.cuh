// The kernel of bulk_sm90: teams of warps take groups of tokens in turn.
#pragma once

#include "impls/arch/sm90/cluster.cuh"
#include "impls/attnres/bulk_rows.cuh"
#include "impls/attnres/depth_products.cuh"
#include "impls/attnres/lane_softmax.cuh"
#include "impls/attnres/mixed_rows.cuh"
#include "impls/attnres/query_rows.cuh"
#include "impls/attnres/rank_exchange.cuh"
#include "impls/attnres_phase1/bulk_sm90.h"

namespace attn::attnres_phase1 {
namespace bulk {

using attnres::BulkBarriers;
using attnres::BulkConfig;
using attnres::ColumnRange;
using attnres::kColumns;
using attnres::StagedRows;
using attnres::Team;
using attnres::TokenGroups;

constexpr int kThreads = 32 * attnres::kTeamWarps * attnres::kBulkTeams;

/// What a team works in, behind the stages.
struct TeamMemory {
  float* products;           // [warps, query rows + 1, pitch]
  float* totals;             // [S + 1, pitch]: inner products of whole queries, then r
  float* weights;            // [rows of a group, S rounded up]
  attnres::TermTiles terms;  // the same for tensor cores; zeros where an output has none of a row
  int* splits;               // [tokens, S]: all that the terms of a query need is there
  float* slots;              // of the exchange

  __device__ static TeamMemory of(const BulkConfig& config,
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

/// One rank's part of a total: the warps' products of all terms of a query, or the squares, in order.
__device__ inline float add_products(const BulkArguments& p,
                                     const BulkSums& sums,
                                     const float* products,
                                     int i) {
  const int row = i / sums.pitch;
  const int terms = row < p.S ? p.terms : 1;
  int at = i + (row < p.S ? 0 : (p.terms - 1) * p.S * sums.pitch);
  float total = 0;
  for (int term = 0; term < terms; ++term, at += p.S * sums.pitch) {
#pragma unroll
    for (int warp = 0; warp < attnres::kTeamWarps; ++warp)
      total += products[warp * sums.warp_floats + at];
  }
  return total;
}

/// Totals of a group's products from those of all warps and ranks; r in place of the squares. Ends with
/// a barrier of the team.
__device__ inline void add_totals(const BulkArguments& p,
                                  const BulkSums& sums,
                                  const Team& team,
                                  const TeamMemory& own,
                                  attnres::RankExchange& exchange) {
  const auto part = [&](int i) { return add_products(p, sums, own.products, i); };
  const auto finish = [&](int i, float total) {
    own.totals[i] =
        i < p.S * sums.pitch ? total : 1.0f / sqrtf(total / static_cast<float>(p.D) + p.eps);
  };
  if (p.config.ranks == 1) {
    for (int i = team.thread; i < sums.total_floats; i += team.threads()) finish(i, part(i));
  } else {
    exchange.send(team, part);
    exchange.wait();
    for (int i = team.thread; i < sums.total_floats; i += team.threads())
      finish(i, exchange.total(i));
    exchange.advance();
  }
  team.sync();  // the team's warps: totals and r are there; the warps' products may be written again
}

/// The weights of every token and query of a group, and their lse, by kLanes lanes each. Ends with a barrier
/// of the team.
template <class T, int kLanes>
__device__ inline void find_weights(const BulkArguments& p,
                                    const BulkSums& sums,
                                    const Team& team,
                                    const TeamMemory& own,
                                    std::int64_t token,
                                    int tokens,
                                    bool stores) {
  const int lanes = tokens * p.S * kLanes;
  for (int warp_first = team.warp * 32; warp_first < lanes; warp_first += team.threads()) {
    const int pair = (warp_first + team.lane) / kLanes;
    const int part = team.lane % kLanes;
    const bool exists = pair < tokens * p.S;
    const int t = exists ? pair / p.S : 0;
    const int s = exists ? pair % p.S : 0;
    const float* r = own.totals + p.S * sums.pitch + t * p.N;
    float* weights = own.weights + t * p.N * sums.weight_pitch + s;
    const float lse = attnres::depth_softmax_lanes<kLanes>(
        exists ? p.N : 0, part, own.totals + s * sums.pitch + t * p.N, r, weights,
        sums.weight_pitch);
    const int output = t * sums.query_blocks * attnres::kTileRows + s;
    bool splits = true;
    for (int n = part; exists && n < p.N; n += kLanes) {
      const float weight = weights[n * sums.weight_pitch];
      own.terms.put<T>(output, t * p.N + n, weight);
      // r is neither 0 nor NaN: the row is finite.
      splits &= r[n] > 0 && (weight == 0 || !(weight < attnres::kLeastWeight<T>));
    }
    const unsigned votes =
        __ballot_sync(0xffffffffu, splits) >> team.lane / kLanes * kLanes;
    if (exists && part == 0) {
      own.splits[pair] = votes % (1u << kLanes) == (1u << kLanes) - 1;
      if (stores) p.lse[s * p.tokens + token + t] = lse;
    }
  }
  team.sync();  // the team's warps: the weights are there
}

/// Whether tensor cores may mix a group: rows that are not finite would reach outputs whose weight of
/// them is 0, and -0 would not come out bit for bit where one source is all there is.
__device__ inline bool may_split(const BulkArguments& p,
                                 const Team& team,
                                 const TeamMemory& own,
                                 int tokens) {
  bool splits = p.N > 1 && tokens == p.config.tokens;
  for (int pair = team.lane; splits && pair < tokens * p.S; pair += 32)
    splits = own.splits[pair] != 0;
  return __all_sync(0xffffffffu, splits) != 0;
}

/// What a lane writes of kBlocks blocks of outputs: two outputs of each, eight columns of every chunk that its
/// warp takes.
template <class T, class U, int kBlocks>
struct BlockOutputs {
  U* to[kBlocks];    // the first of the two
  int has[kBlocks];  // of the two
  std::int64_t plane;

  __device__ BlockOutputs(const BulkArguments& p,
                          const BulkSums& sums,
                          const Team& team,
                          std::int64_t token,
                          int block,
                          int first_group)
      : to{}, has{}, plane(p.tokens * p.D) {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int s = (block + i) % sums.query_blocks * attnres::kTileRows + team.lane % 4 * 2;
      const std::int64_t t = token + (block + i) / sums.query_blocks;
      has[i] = p.S - s;
      to[i] = static_cast<U*>(p.out) + (s * p.tokens + t) * p.D + first_group * kColumns;
    }
  }
  /// Stores a chunk, if the lane has columns of it, and goes on to the warp's next.
  __device__ void store(const attnres::ChunkSums (&mixed)[kBlocks], bool exists) {
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        float x[kColumns];
        attnres::take_columns<T>(mixed[i], second, x);
        if (exists && second < has[i]) attnres::store_group(to[i] + second * plane, 0, x);
      }
      to[i] += attnres::kTeamWarps * attnres::kChunkColumns;
    }
  }
};

/// The mixed rows of kBlocks blocks of outputs from `block` on, of a group of kTiles tiles of rows (0: any
/// number), on tensor cores; warps take chunks of columns in turn. Of few tiles the weights stay in
/// registers, and a chunk's columns come while the one before is mixed.
template <class T, class U, int kBlocks, int kTiles>
__device__ inline void mix_blocks(const BulkArguments& p,
                                  const BulkSums& sums,
                                  const Team& team,
                                  const TeamMemory& own,
                                  const char* stage,
                                  const ColumnRange& range,
                                  std::int64_t token,
                                  int block) {
  constexpr int kGroups = attnres::kChunkColumns / kColumns;
  constexpr int kHeld = std::max(1, kTiles);
  const int first_group = team.warp * kGroups + team.lane / 4;
  BlockOutputs<T, U, kBlocks> outputs(p, sums, team, token, block, range.first + first_group);
  const auto load = [&](int tile, int group) {
    return attnres::ChunkColumns::load(stage, p.config.row_bytes(), p.config.group_rows, tile,
                                       min(group, range.count - 1) * 16, team.lane);
  };
  const auto terms = [&](int i, int tile) {
    return attnres::LaneTerms::load(own.terms.tile(block + i, tile), team.lane);
  };
  attnres::LaneTerms held[kBlocks][kHeld];
  attnres::ChunkColumns next[kHeld];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    next[tile] = load(tile, first_group);
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) held[i][tile] = terms(i, tile);
  }
  // A warp's lanes leave together: the condition is that of its first.
  for (int group = first_group; group - team.lane / 4 < range.count;
       group += attnres::kTeamWarps * kGroups) {
    attnres::ChunkSums mixed[kBlocks] = {};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const attnres::ChunkColumns columns = next[tile];
      next[tile] = load(tile, group + attnres::kTeamWarps * kGroups);
#pragma unroll
      for (int i = 0; i < kBlocks; ++i)
        attnres::add_weighted_rows<T>(columns, held[i][tile], mixed[i]);
    }
    for (int tile = 0; kTiles == 0 && tile < sums.term_tiles; ++tile) {
      const attnres::ChunkColumns columns = load(tile, group);
#pragma unroll
      for (int i = 0; i < kBlocks; ++i)
        attnres::add_weighted_rows<T>(columns, terms(i, tile), mixed[i]);
    }
    outputs.store(mixed, group < range.count);
  }
}

/// The mixed rows of a group on tensor cores, two blocks of outputs at a time where there are two.
template <class T, class U, int kTiles>
__device__ inline void mix_tiles(const BulkArguments& p,
                                 const BulkSums& sums,
                                 const Team& team,
                                 const TeamMemory& own,
                                 const char* stage,
                                 const ColumnRange& range,
                                 std::int64_t token) {
  const int blocks = p.config.tokens * sums.query_blocks;
  int block = 0;
  for (; block + 1 < blocks; block += 2)
    mix_blocks<T, U, 2, kTiles == 2 ? 0 : kTiles>(p, sums, team, own, stage, range, token, block);
  if (block < blocks)
    mix_blocks<T, U, 1, kTiles>(p, sums, team, own, stage, range, token, block);
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

/// A team's groups, one after the other.
template <class T>
__device__ inline void read_groups(const BulkArguments& p,
                                   const Team& team,
                                   BulkBarriers& barriers,
                                   const TokenGroups& groups,
                                   const ColumnRange& range,
                                   bool first_rank,
                                   char* memory) {
  const BulkConfig& config = p.config;
  const BulkSums sums = BulkSums::of(config, p.S, p.terms);
  const TeamMemory own = TeamMemory::of(config, sums, team, memory);
  const auto copy = [&](int i, int stage, int reader) {
    attnres::start_copies(config, barriers, sm90::shared_address(memory + config.stage_offset()),
                          groups, i, stage, reader, p.N,
                          static_cast<std::uint32_t>(range.count * 16), team.lane,
                          [&](std::int64_t token, int row) {
                            const int n = row % p.N;
                            return static_cast<const T*>(p.v.data[n]) +
                                   (token + row / p.N) * p.v.stride + range.first * kColumns;
                          });
  };
  if (team.warp == 0)
    for (int i = team.index; i < config.stages; i += attnres::kBulkTeams) copy(i, i, team.index);
  attnres::RankExchange exchange(own.slots, barriers.exchange[team.index], config.ranks,
                                 sums.total_floats);
  attnres::StageCursor cursor(config, team);
  const int next_reader = (team.index + config.stages) % attnres::kBulkTeams;  // of a stage
  const StagedRows queries{sm90::shared_address(memory + config.resident_offset()),
                           config.row_bytes(), sums.query_rows};
  const attnres::StepRange steps =
      attnres::steps_of(config.steps(), team.warp, attnres::kTeamWarps);
  for (int i = team.thread; i < sums.term_words; i += team.threads()) own.terms.words[i] = 0;
  for (int i = team.index; groups.has(i); i += attnres::kBulkTeams) {
    const char* stage = memory + config.stage_offset() + cursor.stage() * config.stage_bytes();
    const StagedRows rows{sm90::shared_address(stage), config.row_bytes(), config.group_rows};
    cursor.wait(team, barriers);
    attnres::warp_products<T>(queries, rows, steps.first, steps.count, team.lane,
                              own.products + team.warp * sums.warp_floats);
    team.sync();  // the team's warps: their products are there
    add_totals(p, sums, team, own, exchange);
    const std::int64_t token = groups.begin(i);
    const int tokens = groups.count(i);
    const auto weights = [&](auto lanes) {
      find_weights<T, lanes()>(p, sums, team, own, token, tokens, first_rank);
    };
    if (p.N <= 4) {
      weights(std::integral_constant<int, 4>{});
    } else if (p.N <= 8) {
      weights(std::integral_constant<int, 8>{});
    } else {
      weights(std::integral_constant<int, 16>{});
    }
    const bool splits = may_split(p, team, own, tokens);
    attnres::as_type(p.out_dtype, [&]<class U>(std::type_identity<U>) {
      if (splits) {
        const auto mix = [&](auto tiles) {
          mix_tiles<T, U, tiles()>(p, sums, team, own, stage, range, token);
        };
        if (sums.term_tiles == 1) {
          mix(std::integral_constant<int, 1>{});
        } else if (sums.term_tiles == 2) {
          mix(std::integral_constant<int, 2>{});
        } else {
          mix(std::integral_constant<int, 0>{});
        }
      } else {
        mix_rows<T, U>(p, sums, team, own, stage, range, token, tokens);
      }
    });
    team.sync();  // the team's warps: the stage and the weights have been read
    if (team.warp == 0) copy(i + config.stages, cursor.stage(), next_reader);
    cursor.advance(config);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    read_kernel(const __grid_constant__ BulkArguments p) {
  extern __shared__ __align__(128) char memory[];
  auto& barriers = *reinterpret_cast<BulkBarriers*>(memory);
  const BulkConfig& config = p.config;
  const auto thread = static_cast<int>(threadIdx.x);
  const auto rank = static_cast<int>(sm90::cluster_rank());
  const ColumnRange range = attnres::columns_of(p.D / kColumns, config.ranks, rank);
  const TokenGroups groups =
      TokenGroups::of(config, p.tokens, static_cast<int>(blockIdx.x) / config.ranks,
                      static_cast<int>(gridDim.x) / config.ranks);
  char* resident = memory + config.resident_offset();
  if (thread == 0) attnres::init_barriers(config, barriers);
  attnres::stage_queries<T>(config, p.wt, p.wt_dtype, p.S, p.D, p.terms, range, resident, thread,
                            kThreads);
  attnres::clear_padding(config, resident, config.resident_rows, range.count, thread, kThreads);
  attnres::clear_padding(config, memory + config.stage_offset(), config.stages * config.group_rows,
                         range.count, thread, kThreads);
  __syncwarp();
  sm90::cluster_arrive();  // all threads of the cluster: barriers, queries and zeros are there
  sm90::cluster_wait();
  read_groups<T>(p, Team::of(thread, attnres::kTeamWarps), barriers, groups, range, rank == 0,
                 memory);
  if (config.ranks > 1) {
    __syncwarp();
    sm90::cluster_arrive();  // no CTA ends while another may still send it sums
    sm90::cluster_wait();
  }
}

}  // namespace bulk
}  // namespace attn::attnres_phase1
