// The kernel of bulk_sm90: teams of warps take groups of tokens in turn.
#pragma once

#include "impls/arch/sm80/lane.cuh"
#include "impls/arch/sm90/cluster.cuh"
#include "impls/attnres/bulk_rows.cuh"
#include "impls/attnres/depth_products.cuh"
#include "impls/attnres/lane_softmax.cuh"
#include "impls/attnres/query_rows.cuh"
#include "impls/attnres/rank_exchange.cuh"
#include "impls/attnres_phase1/bulk_mix.cuh"

namespace attn::attnres_phase1 {
namespace bulk {

using attnres::BulkBarriers;
using attnres::BulkConfig;
using attnres::ColumnRange;
using attnres::StagedRows;
using attnres::TokenGroups;

constexpr int kThreads = 32 * attnres::kTeamWarps * attnres::kBulkTeams;

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
    const float lse = attnres::depth_softmax_lanes<kLanes>(exists ? p.N : 0, part,
                                                           own.totals + s * sums.pitch + t * p.N, r,
                                                           weights, sums.weight_pitch);
    const int output = t * sums.query_blocks * attnres::kTileRows + s;
    bool splits = true;
    for (int n = part; exists && n < p.N; n += kLanes) {
      const float weight = weights[n * sums.weight_pitch];
      own.terms.put<T>(output, t * p.N + n, weight);
      // r is neither 0 nor NaN: the row is finite.
      splits &= r[n] > 0 && (weight == 0 || !(weight < attnres::kLeastWeight<T>));
    }
    const unsigned votes = __ballot_sync(0xffffffffu, splits) >> team.lane / kLanes * kLanes;
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

/// The columns of this CTA.
__device__ inline ColumnRange own_columns(const BulkArguments& p) {
  return attnres::columns_of(p.D / kColumns, p.config.ranks,
                             static_cast<int>(sm90::cluster_rank()));
}

/// A team's groups of kTiles tiles of rows (0: any number), one after the other.
template <class T, int kTiles>
__device__ inline void read_groups(const BulkArguments& p,
                                   const Team& team,
                                   BulkBarriers& barriers,
                                   const TokenGroups& groups,
                                   char* memory) {
  const BulkConfig& config = p.config;
  const BulkSums sums = BulkSums::of(config, p.S, p.terms);
  const auto copy = [&](int i, int stage, int reader) {
    const ColumnRange range = own_columns(p);
    attnres::start_copies(config, barriers, sm90::shared_address(memory + config.stage_offset()),
                          groups, i, stage, reader, p.N,
                          static_cast<std::uint32_t>(range.count * 16), sm80::lane_id(),
                          [&](std::int64_t token, int row) {
                            const int n = row % p.N;
                            return static_cast<const T*>(p.v.data[n]) +
                                   (token + row / p.N) * p.v.stride + range.first * kColumns;
                          });
  };
  if (team.warp == 0)
    for (int i = team.index; i < config.stages; i += attnres::kBulkTeams) copy(i, i, team.index);
  const TeamMemory start = TeamMemory::of(config, sums, team, memory);
  attnres::RankExchange exchange(start.slots, barriers.exchange[team.index], config.ranks,
                                 sums.total_floats);
  attnres::StageCursor cursor(config, team);
  for (int i = team.thread; i < sums.term_words; i += team.threads()) start.terms.words[i] = 0;
  for (int i = team.index; groups.has(i); i += attnres::kBulkTeams) {
    // Anew: what comes of them is not kept from group to group, in registers that the products need.
    const Team here = Team::of(sm80::thread_id(), attnres::kTeamWarps);
    const TeamMemory own = TeamMemory::of(config, sums, here, memory);
    const StagedRows queries{sm90::shared_address(memory + config.resident_offset()),
                             config.row_bytes(), sums.query_rows};
    const attnres::StepRange steps =
        attnres::steps_of(config.steps(), here.warp, attnres::kTeamWarps);
    const char* stage = memory + config.stage_offset() + cursor.stage() * config.stage_bytes();
    const StagedRows rows{sm90::shared_address(stage), config.row_bytes(), config.group_rows};
    cursor.wait(here, barriers);
    attnres::warp_products<T, kTiles>(queries, rows, steps.first, steps.count, here.lane,
                                      own.products + here.warp * sums.warp_floats);
    here.sync();  // the team's warps: their products are there
    add_totals(p, sums, here, own, exchange);
    const std::int64_t token = groups.begin(i);
    const int tokens = groups.count(i);
    const auto weights = [&](auto lanes) {
      find_weights<T, lanes()>(p, sums, here, own, token, tokens, sm90::cluster_rank() == 0);
    };
    if constexpr (kTiles != 1) {
      weights(std::integral_constant<int, 16>{});
    } else if (p.N > 4) {
      weights(std::integral_constant<int, 8>{});
    } else {
      weights(std::integral_constant<int, 4>{});
    }
    const bool splits = may_split(p, here, own, tokens);
    const ColumnRange range = own_columns(p);
    attnres::as_type(p.out_dtype, [&]<class U>(std::type_identity<U>) {
      if (splits) {
        mix_tiles<T, U, kTiles>(p, sums, here, own, stage, range, token);
      } else {
        mix_rows<T, U>(p, sums, here, own, stage, range, token, tokens);
      }
    });
    here.sync();  // the team's warps: the stage and the weights have been read
    if (here.warp == 0)
      copy(i + config.stages, cursor.stage(), (here.index + config.stages) % attnres::kBulkTeams);
    cursor.advance(config);
  }
}

/// Of groups of kTiles tiles of eight rows, 0: of any number.
template <class T, int kTiles>
__global__ void __launch_bounds__(kThreads, 1)
    read_kernel(const __grid_constant__ BulkArguments p) {
  extern __shared__ __align__(128) char memory[];
  auto& barriers = *reinterpret_cast<BulkBarriers*>(memory);
  const BulkConfig& config = p.config;
  const auto thread = static_cast<int>(threadIdx.x);
  const ColumnRange range = own_columns(p);
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
  read_groups<T, kTiles>(p, Team::of(thread, attnres::kTeamWarps), barriers, groups, memory);
  if (config.ranks > 1) {
    __syncwarp();
    sm90::cluster_arrive();  // no CTA ends while another may still send it sums
    sm90::cluster_wait();
  }
}

}  // namespace bulk
}  // namespace attn::attnres_phase1
