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
#include "impls/common/warp_reduce.cuh"

namespace attn::attnres_phase1 {
namespace bulk {

using attnres::BulkConfig;
using attnres::BulkRing;
using attnres::ColumnRange;
using attnres::StagedRows;
using attnres::TokenGroups;

/// One rank's part of a total: the warps' products of all terms of query `row`, or (row S) the squares, in order.
__device__ inline float add_products(
    const BulkArguments& p, const BulkSums& sums, const float* products, int row, int column) {
  const int terms = row < p.S ? p.terms : 1;
  int at = (row < p.S ? row : p.terms * p.S) * sums.pitch + column;
  float total = 0;
  for (int term = 0; term < terms; ++term, at += p.S * sums.pitch) {
#pragma unroll
    for (int warp = 0; warp < attnres::kTeamWarps; ++warp)
      total += products[warp * sums.warp_floats + at];
  }
  return total;
}

/// Sends what the ranks of a cluster need of each other, and waits for it; sum(row, column) is then the total
/// of a product over warps and ranks.
class Totals {
 public:
  __device__ Totals(const BulkArguments& p,
                    const BulkSums& sums,
                    const Team& team,
                    const TeamMemory& own,
                    const attnres::RankExchange& exchange)
      : p_(p), sums_(sums), own_(own), exchange_(exchange) {
    if (p.config.ranks == 1) return;
    exchange.send(team, [&](int i) {
      return add_products(p, sums, own.products, i / sums.pitch, i % sums.pitch);
    });
    exchange.wait();
  }
  __device__ float sum(int row, int column) const {
    return p_.config.ranks == 1 ? add_products(p_, sums_, own_.products, row, column)
                                : exchange_.total(row * sums_.pitch + column);
  }
  /// The reciprocal RMS of staged row `column`.
  __device__ float r(int column) const {
    return rsqrtf(fmaf(sum(p_.S, column), p_.over_D, p_.eps));
  }

 private:
  const BulkArguments& p_;
  const BulkSums& sums_;
  const TeamMemory& own_;
  const attnres::RankExchange& exchange_;
};

/// Token `t` of a group and query s, whose weights kLanes lanes find.
struct Pair {
  int index, t, s;
  bool exists;
};

/// Calls find(pair, splits) for every pair of a group by kLanes lanes of a warp; it returns the normaliser, and
/// in `splits` whether terms hold all weights of the lane. Ends with a barrier of the team.
template <int kLanes, class Find>
__device__ inline void for_each_pair(
    const BulkArguments& p, const Team& team, const TeamMemory& own, int tokens, Find&& find) {
  const int pairs = tokens * p.S;
  for (int first = team.warp * 32; first < pairs * kLanes; first += team.threads()) {
    const int index = (first + team.lane) / kLanes;
    const bool exists = index < pairs;
    const Pair pair{index, exists ? index / p.S : 0, exists ? index % p.S : 0, exists};
    bool splits = true;
    const attnres::DepthNormaliser found = find(pair, splits);
    const unsigned votes = __ballot_sync(0xffffffffu, splits) >> team.lane / kLanes * kLanes;
    const bool all_split = votes % (1u << kLanes) == (1u << kLanes) - 1;
    if (exists && team.lane % kLanes == 0)
      own.pairs[index] = {found.largest, found.sum, all_split ? 1 : 0};
  }
  team.sync();  // the team's warps: the weights are there
}

/// Sets the terms of a weight. Returns whether they hold it, and the row, whose r is neither 0 nor NaN then, is
/// finite.
template <class T, bool kMayPack>
__device__ inline bool put_weight(const BulkSums& sums,
                                  const TeamMemory& own,
                                  const Pair& pair,
                                  int column,
                                  float weight,
                                  float r) {
  own.terms.put<T, kMayPack>(pair.t * sums.query_blocks * attnres::kTileRows + pair.s, column,
                             weight);
  return r > 0 && (weight == 0 || !(weight < attnres::kLeastWeight<T>));
}

/// The weights of every token and query of a group, and their lse: of N <= kLanes sources, one a lane.
template <class T, int kLanes>
__device__ inline void find_weights(const BulkArguments& p,
                                    const BulkSums& sums,
                                    const Team& team,
                                    const TeamMemory& own,
                                    const Totals& totals,
                                    int tokens) {
  const int n = team.lane % kLanes;
  for_each_pair<kLanes>(p, team, own, tokens, [&](const Pair& pair, bool& splits) {
    const bool has = pair.exists && n < p.N;
    const int column = pair.t * p.N + (has ? n : 0);
    const float r = totals.r(column);
    const float logit = has ? totals.sum(pair.s, column) * r : -INFINITY;
    const float largest = warp_reduce<kLanes>(logit, Max{});
    const float e = has ? expf(logit - largest) : 0.0f;
    const float sum = warp_reduce<kLanes>(e, Sum{});
    if (has) {
      const float weight = e * (1.0f / sum);
      own.weights[column * sums.weight_pitch + pair.s] = weight;
      splits = put_weight<T, (kLanes > 8)>(sums, own, pair, column, weight, r);
    }
    return attnres::DepthNormaliser{largest, sum};
  });
}

/// The same of any number of sources.
template <class T>
__device__ inline void find_many_weights(const BulkArguments& p,
                                         const BulkSums& sums,
                                         const Team& team,
                                         const TeamMemory& own,
                                         const Totals& totals,
                                         int tokens) {
  constexpr int kLanes = 16;
  const float* r = own.totals + p.S * sums.pitch;
  for (int i = team.thread; i < sums.total_floats; i += team.threads())
    own.totals[i] = i < p.S * sums.pitch ? totals.sum(i / sums.pitch, i % sums.pitch)
                                         : totals.r(i - p.S * sums.pitch);
  team.sync();  // the team's warps: totals and r are there
  for_each_pair<kLanes>(p, team, own, tokens, [&](const Pair& pair, bool& splits) {
    const int first = pair.t * p.N;
    const int part = team.lane % kLanes;
    float* weights = own.weights + first * sums.weight_pitch + pair.s;
    const attnres::DepthNormaliser found = attnres::depth_softmax_lanes<kLanes>(
        pair.exists ? p.N : 0, part, own.totals + pair.s * sums.pitch + first, r + first, weights,
        sums.weight_pitch);
    for (int n = part; pair.exists && n < p.N; n += kLanes)
      splits &= put_weight<T, false>(sums, own, pair, first + n, weights[n * sums.weight_pitch],
                                     r[first + n]);
    return found;
  });
}

/// Whether tensor cores may mix a group: rows that are not finite would reach outputs whose weight of
/// them is 0, and -0 would not come out bit for bit where one source is all there is.
__device__ inline bool may_split(const BulkArguments& p,
                                 const Team& team,
                                 const TeamMemory& own,
                                 int tokens) {
  bool splits = p.N > 1 && tokens == p.config.tokens;
  for (int pair = team.lane; splits && pair < tokens * p.S; pair += 32)
    splits = own.pairs[pair].splits != 0;
  return __all_sync(0xffffffffu, splits) != 0;
}

/// The columns of this CTA.
__device__ inline ColumnRange own_columns(const BulkArguments& p) {
  return attnres::columns_of(p.D / kColumns, p.config.ranks,
                             static_cast<int>(sm90::cluster_rank()));
}

/// Starts the copies of a group, which team `reader` will read in `stage`; by a whole warp.
template <class T>
__device__ inline void copy_group(const BulkArguments& p,
                                  BulkRing& ring,
                                  const TokenGroups& groups,
                                  int group,
                                  int stage,
                                  int reader,
                                  char* memory) {
  const ColumnRange range = own_columns(p);
  attnres::start_copies(p.config, ring, sm90::shared_address(memory + p.config.stage_offset()),
                        groups, group, stage, reader, p.N,
                        static_cast<std::uint32_t>(range.count * 16), sm80::lane_id(),
                        [&](std::int64_t token, int row) {
                          const int n = row % p.N;
                          return static_cast<const T*>(p.v.data[n]) +
                                 (token + row / p.N) * p.v.stride + range.first * kColumns;
                        });
}

/// Stores the lse of a group's pairs, by a warp: behind the mix, which need not wait for the logarithms.
__device__ inline void store_lse(const BulkArguments& p,
                                 const Team& team,
                                 const TeamMemory& own,
                                 std::int64_t token,
                                 int tokens) {
  if (sm90::cluster_rank() != 0) return;
  for (int pair = team.lane; pair < tokens * p.S; pair += 32) {
    const attnres::DepthNormaliser found{own.pairs[pair].largest, own.pairs[pair].sum};
    p.lse[pair % p.S * p.tokens + token + pair / p.S] = found.lse();
  }
}

/// Stores the mixed rows of a group, and its lse behind a barrier of the team.
template <class T, class Shape>
__device__ inline void mix_group(const BulkArguments& p,
                                 const BulkSums& sums,
                                 const char* stage,
                                 std::int64_t token,
                                 int tokens,
                                 char* memory) {
  const Team team = Team::of(sm80::thread_id(), attnres::kTeamWarps);
  const TeamMemory own = TeamMemory::of(p.config, sums, team, memory);
  const bool splits = may_split(p, team, own, tokens);
  const StagedGroup staged{stage, own_columns(p), token, tokens};
  attnres::as_type(p.out_dtype, [&]<class U>(std::type_identity<U>) {
    if (splits) {
      mix_tiles<T, U, Shape>(p, sums, team, own, staged);
    } else {
      mix_rows<T, U>(p, sums, team, own, staged);
    }
  });
  team.sync();  // the team's warps: the stage and the weights have been read
  if (team.warp == 1) store_lse(p, team, own, token, tokens);  // warp 0 starts copies
}

/// A team's groups, one after the other, and the copies of those that come after them.
template <class T, class Shape>
__device__ inline void read_groups(const BulkArguments& p,
                                   const Team& team,
                                   BulkRing& ring,
                                   const TokenGroups& groups,
                                   char* memory) {
  const BulkConfig& config = p.config;
  const BulkSums sums = BulkSums::of(config, p.S, p.terms);
  const TeamMemory start = TeamMemory::of(config, sums, team, memory);
  attnres::StageCursor cursor(config, team);
  for (int i = team.thread; i < sums.term_words; i += team.threads()) start.terms.words[i] = 0;
  for (int i = team.index;; i += Shape::kTeams) {
    // Anew: what comes of them is not kept from group to group, in registers that the products need.
    const Team here = Team::of(sm80::thread_id(), attnres::kTeamWarps);
    const TeamMemory own = TeamMemory::of(config, sums, here, memory);
    const StagedRows queries{sm90::shared_address(memory + config.resident_offset()),
                             config.row_bytes(), sums.query_rows};
    const attnres::StepRange steps =
        attnres::steps_of(config.steps(), here.warp, attnres::kTeamWarps);
    const char* stage = memory + config.stage_offset() + cursor.stage() * config.stage_bytes();
    const StagedRows rows{sm90::shared_address(stage), config.row_bytes(), config.group_rows};
    const int group = cursor.wait(here, ring);
    int number = 0;
    if (here.thread == 0) number = groups.draw();  // long before it is needed
    attnres::warp_products<T, Shape::kTiles>(queries, rows, steps.first, steps.count, here.lane,
                                             own.products + here.warp * sums.warp_floats);
    here.sync();  // the team's warps: their products are there
    const int reader = (here.index + config.stages) % Shape::kTeams;  // of the stage, the next one
    if (!groups.has(group)) {
      if (here.thread == 0) attnres::pass_on(ring, group, cursor.stage(), reader);
      return;
    }
    const std::int64_t token = groups.begin(group);
    const int tokens = groups.count(group);
    const attnres::RankExchange exchange(own.slots, ring.exchange[here.index], config.ranks,
                                         sums.total_floats, i / Shape::kTeams);
    const Totals totals(p, sums, here, own, exchange);
    if constexpr (Shape::kTiles == 0) {
      find_many_weights<T>(p, sums, here, own, totals, tokens);
    } else if constexpr (Shape::kTiles == 2) {
      find_weights<T, 16>(p, sums, here, own, totals, tokens);
    } else if (p.N > 4) {
      find_weights<T, 8>(p, sums, here, own, totals, tokens);
    } else {
      find_weights<T, 4>(p, sums, here, own, totals, tokens);
    }
    mix_group<T, Shape>(p, sums, stage, token, tokens, memory);
    if (here.warp == 0) {
      const int drawn = __shfl_sync(0xffffffffu, number, 0);
      copy_group<T>(p, ring, groups, groups.of_turn(i + config.stages, config.stages, drawn),
                    cursor.stage(), reader, memory);
    }
    cursor.advance(config);
  }
}

template <class T, class Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    read_kernel(const __grid_constant__ BulkArguments p) {
  extern __shared__ __align__(128) char memory[];
  auto& ring = *reinterpret_cast<BulkRing*>(memory);
  const BulkConfig& config = p.config;
  const auto thread = static_cast<int>(threadIdx.x);
  const ColumnRange range = own_columns(p);
  const TokenGroups groups{.tokens = p.tokens,
                           .size = config.tokens,
                           .first = static_cast<int>(blockIdx.x) / config.ranks,
                           .step = static_cast<int>(gridDim.x) / config.ranks,
                           .drawn = p.drawn};
  const Team team = Team::of(thread, attnres::kTeamWarps);
  char* resident = memory + config.resident_offset();
  if (thread == 0) attnres::init_barriers(config, ring);
  __syncthreads();  // all threads: barriers are there
  if (team.warp == 0) {
    for (int i = team.index; i < config.stages; i += Shape::kTeams)
      copy_group<T>(p, ring, groups, groups.in_turn(i), i, team.index, memory);
  }
  attnres::stage_queries<T>(config, p.wt, p.wt_dtype, p.S, p.D, p.terms, range, resident, thread,
                            Shape::kThreads);
  attnres::clear_padding(config, resident, config.resident_rows, range.count, thread,
                         Shape::kThreads);
  attnres::clear_padding(config, memory + config.stage_offset(), config.stages * config.group_rows,
                         range.count, thread, Shape::kThreads);
  __syncwarp();
  sm90::cluster_arrive();  // all threads of the cluster: barriers, queries and zeros are there
  sm90::cluster_wait();
  read_groups<T, Shape>(p, team, ring, groups, memory);
  if (config.ranks > 1) {
    __syncwarp();
    sm90::cluster_arrive();  // no CTA ends while another may still send it sums
    sm90::cluster_wait();
  }
}

}  // namespace bulk
}  // namespace attn::attnres_phase1
