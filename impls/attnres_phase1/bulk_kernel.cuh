// The kernel of bulk_sm90: one warp copies, teams of warps take groups of tokens in turn.
#pragma once

#include "impls/arch/sm90/barrier.cuh"
#include "impls/arch/sm90/cluster.cuh"
#include "impls/attnres/bulk_rows.cuh"
#include "impls/attnres/depth_products.cuh"
#include "impls/attnres/lane_softmax.cuh"
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

constexpr int kTeamThreads = 32 * attnres::kBulkWarps;
constexpr int kThreads = kTeamThreads + 32;
constexpr int kTeamsBarrier = attnres::kMostTeams + 1;  // of all teams; teams have 1 and up
constexpr int kSoftmaxLanes = 4;

/// What a team works in, behind the stages.
struct TeamMemory {
  float* products;  // [warps, query rows + 1, pitch]
  float* totals;    // [S + 1, pitch]: inner products of whole queries, then r
  float* weights;   // [rows of a group, S rounded up]
  float* slots;     // of the exchange

  __device__ static TeamMemory of(const BulkConfig& config,
                                  const BulkSums& sums,
                                  const Team& team,
                                  char* memory) {
    TeamMemory own{};
    own.products = reinterpret_cast<float*>(memory + config.rest_offset()) +
                   team.index * sums.team_floats(config.team_warps);
    own.totals = own.products + config.team_warps * sums.warp_floats;
    own.weights = own.totals + sums.total_floats;
    own.slots = own.weights + sums.weight_floats;
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
    for (int warp = 0; warp < p.config.team_warps; ++warp)
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

/// The weights of every token and query of a group, and their lse. Ends with a barrier of the team.
__device__ inline void find_weights(const BulkArguments& p,
                                    const BulkSums& sums,
                                    const Team& team,
                                    const TeamMemory& own,
                                    std::int64_t token,
                                    int tokens,
                                    bool stores) {
  const int lanes = tokens * p.S * kSoftmaxLanes;
  for (int warp_first = team.warp * 32; warp_first < lanes; warp_first += team.threads()) {
    const int pair = (warp_first + team.lane) / kSoftmaxLanes;
    const int part = team.lane % kSoftmaxLanes;
    const bool exists = pair < tokens * p.S;
    const int t = exists ? pair / p.S : 0;
    const int s = exists ? pair % p.S : 0;
    const float lse = attnres::depth_softmax_lanes<kSoftmaxLanes>(
        exists ? p.N : 0, part, own.totals + s * sums.pitch + t * p.N,
        own.totals + p.S * sums.pitch + t * p.N, own.weights + t * p.N * sums.weight_pitch + s,
        sums.weight_pitch);
    if (stores && exists && part == 0) p.lse[s * p.tokens + token + t] = lse;
  }
  team.sync();  // the team's warps: the weights are there
}

/// The mixed rows of kQueries queries from `first` on, of one token: rows of N sources at `rows`.
template <class T, int kQueries>
__device__ inline void mix_queries(const BulkArguments& p,
                                   const Team& team,
                                   const float* weights,
                                   int weight_pitch,
                                   const char* rows,
                                   const ColumnRange& range,
                                   std::int64_t token,
                                   int first) {
  const int row_bytes = p.config.row_bytes();
  for (int group = team.thread; group < range.count; group += team.threads()) {
    float mixed[kQueries][kColumns];
#pragma unroll
    for (int s = 0; s < kQueries; ++s) {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) mixed[s][i] = -0.0f;  // one source comes out bit for bit
    }
    const char* row = rows + group * 16;
    const float* weight = weights + first;
#pragma unroll 2
    for (int n = 0; n < p.N; ++n, row += row_bytes, weight += weight_pitch) {
      float x[kColumns];
      load_vector(reinterpret_cast<const T*>(row), x);
      float p_n[kQueries];
      attnres::load_together(weight, p_n);
#pragma unroll
      for (int s = 0; s < kQueries; ++s) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) mixed[s][i] += p_n[s] * x[i];
      }
    }
    attnres::as_type(p.out_dtype, [&]<class U>(std::type_identity<U>) {
      U* to = static_cast<U*>(p.out) + (first * p.tokens + token) * p.D;
      std::int64_t plane = p.tokens * p.D;
      // Opaque: the compiler would keep the offsets of all planes in registers over all tokens.
      asm volatile("" : "+l"(plane));
#pragma unroll
      for (int s = 0; s < kQueries; ++s, to += plane) {
        if (first + s < p.S) attnres::store_group(to, range.first + group, mixed[s]);
      }
    });
  }
}

/// All queries of one token: eight at a time, then what is left.
template <class T>
__device__ inline void mix_token(const BulkArguments& p,
                                 const Team& team,
                                 const float* weights,
                                 int weight_pitch,
                                 const char* rows,
                                 const ColumnRange& range,
                                 std::int64_t token) {
  int first = 0;
  for (; p.S - first > 4; first += 8)
    mix_queries<T, 8>(p, team, weights, weight_pitch, rows, range, token, first);
  if (p.S - first > 2) {
    mix_queries<T, 4>(p, team, weights, weight_pitch, rows, range, token, first);
  } else if (p.S - first == 2) {
    mix_queries<T, 2>(p, team, weights, weight_pitch, rows, range, token, first);
  } else if (p.S - first == 1) {
    mix_queries<T, 1>(p, team, weights, weight_pitch, rows, range, token, first);
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
  attnres::RankExchange exchange(own.slots, barriers.exchange[team.index], config.ranks,
                                 sums.total_floats);
  attnres::StageCursor cursor(config, team);
  const StagedRows queries{sm90::shared_address(memory + config.resident_offset()),
                           config.row_bytes(), sums.query_rows};
  const attnres::StepRange steps = attnres::steps_of(config.steps(), team.warp, config.team_warps);
  for (std::int64_t i = team.index; groups.has(i); i += config.teams) {
    const char* stage = memory + config.stage_offset() + cursor.stage() * config.stage_bytes();
    const StagedRows rows{sm90::shared_address(stage), config.row_bytes(), config.group_rows};
    cursor.wait(team, barriers);
    attnres::warp_products<T, true>(queries, rows, steps.first, steps.count, team.lane,
                                    own.products + team.warp * sums.warp_floats);
    team.sync();  // the team's warps: their products are there; all have mixed the group before
    add_totals(p, sums, team, own, exchange);
    const std::int64_t token = groups.begin(i);
    const int tokens = groups.count(i);
    find_weights(p, sums, team, own, token, tokens, first_rank);
    for (int t = 0; t < tokens; ++t)
      mix_token<T>(p, team, own.weights + t * p.N * sums.weight_pitch, sums.weight_pitch,
                   stage + t * p.N * config.row_bytes(), range, token + t);
    cursor.release(config, team, barriers);
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
      TokenGroups::of(config, p.tokens, blockIdx.x / static_cast<unsigned>(config.ranks),
                      gridDim.x / static_cast<unsigned>(config.ranks));
  if (thread == 0) attnres::init_barriers(config, barriers);
  __syncwarp();
  sm90::cluster_arrive();  // all threads of the cluster: its barriers are initialised
  sm90::cluster_wait();

  if (thread < kTeamThreads) {
    char* resident = memory + config.resident_offset();
    attnres::stage_queries<T>(config, p.wt, p.wt_dtype, p.S, p.D, p.terms, range, resident, thread,
                              kTeamThreads);
    attnres::clear_padding(config, resident, config.resident_rows, range.count, thread,
                           kTeamThreads);
    attnres::clear_padding(config, memory + config.stage_offset(),
                           config.stages * config.group_rows, range.count, thread, kTeamThreads);
    sm90::named_barrier_sync(kTeamsBarrier,
                             kTeamThreads);  // all teams: queries and zeros are there
    read_groups<T>(p, Team::of(thread, config.team_warps), barriers, groups, range, rank == 0,
                   memory);
  } else if (thread == kTeamThreads) {
    attnres::copy_groups(config, barriers, sm90::shared_address(memory + config.stage_offset()),
                         groups, p.N, static_cast<std::uint32_t>(range.count * 16),
                         [&](std::int64_t token, int row) {
                           const int n = row % p.N;
                           return static_cast<const T*>(p.v.data[n]) +
                                  (token + row / p.N) * p.v.stride + range.first * kColumns;
                         });
  }
  if (config.ranks > 1) {
    __syncwarp();
    sm90::cluster_arrive();  // no CTA ends while another may still send it sums
    sm90::cluster_wait();
  }
}

}  // namespace bulk
}  // namespace attn::attnres_phase1
