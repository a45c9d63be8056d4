// The row-resident kernel: sets a CTA up and gives its warpgroups their roles.
#pragma once

#include <cooperative_groups.h>

#include <cstdint>
#include <utility>

#include "impls/arch/sm90/registers.cuh"
#include "impls/colreduce/resident_columns.cuh"
#include "impls/colreduce/resident_loads.cuh"
#include "impls/colreduce/resident_scores.cuh"

namespace attn::colreduce {

/// Zeroes what the teams' CTAs tell each other by: all CTAs together.
template <class Policy>
__device__ inline void clear_words(const ResidentArguments& args) {
  const auto step = static_cast<int>(gridDim.x * Policy::kThreads);
  for (auto i = static_cast<int>(blockIdx.x * Policy::kThreads + threadIdx.x); i < args.words;
       i += step)
    args.packets[i] = 0;
}

/// Barriers and counters in shared memory. A warp, or the thread that loads, sets some of them up: one thread alone
/// takes as long for a hundred barriers as the grid for its own.
template <class Policy>
__device__ inline void prepare(typename Policy::Shared& shared, int thread, bool loads) {
  using sm90::mbarrier_init;
  using sm90::shared_address;
  const auto init = [](auto& barriers, int arrivals) {
    for (auto& barrier : barriers)
      mbarrier_init(shared_address(&barrier), static_cast<std::uint32_t>(arrivals));
  };
  constexpr int kCrewWarps = 4 * Policy::kCrewGroups;
  constexpr int kTurns = Policy::kTurnBarriers;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    if (thread != 32 * turn) continue;
    for (auto& slot : shared.weight_free) mbarrier_init(shared_address(&slot[turn]), kSharers);
  }
  if (thread == 32 * kTurns) init(shared.tile_full, kCrewWarps);
  if (thread == 32 * (kTurns + 1)) init(shared.factor_full, 1);
  if (thread == 32 * (kTurns + 2)) init(shared.tile_free, kColumnWarps);
  if (loads) {
    init(shared.key_full, 1);
    init(shared.key_free, 4 * Policy::kCrews);
    init(shared.query_full, 1);
    init(shared.query_free, kCrewWarps);
  }
  sm90::mbarrier_init_fence();
  if (thread < Policy::kPoisonSlots) shared.poison_end[thread] = 0;
}

template <class Element, class Policy, bool kMax>
__global__ void __launch_bounds__(Policy::kThreads, 1)
    resident_kernel(const __grid_constant__ ResidentArguments args) {
  extern __shared__ __align__(1024) unsigned char raw[];
  auto& shared = *reinterpret_cast<typename Policy::Shared*>(raw);
  const auto thread = static_cast<int>(threadIdx.x);
  const int group = __shfl_sync(0xffffffffu, thread / 128, 0);
  const int warp = __shfl_sync(0xffffffffu, thread / 32 - 4 * Policy::kScoreGroups, 0);
  const bool loads = warp == kExchangeWarps && thread % 32 == 0;
  if (loads) {
    sm90::prefetch_tensor_map(&args.q.map);
    sm90::prefetch_tensor_map(&args.k.map);
  }
  clear_words<Policy>(args);
  // The grid's barrier goes round while all that does not need it is done.
  const auto grid = cooperative_groups::this_grid();
  auto arrival = grid.barrier_arrive();
  const Team team = make_team<Policy>(args, blockIdx.x);
  prepare<Policy>(shared, thread, loads);
  Loader<Policy> loader(args, shared, team);
  if (loads) loader.begin();
  __syncwarp();
  grid.barrier_wait(std::move(arrival));  // all CTAs: every word is zero; barriers are ready

  if (group < Policy::kScoreGroups) {
    sm90::take_registers<Policy::kScoreRegisters>();
    ScoreGroup<Element, Policy>(args, shared, team, group, thread % 128).run();
  } else {
    sm90::give_registers<Policy::kOtherRegisters>();
    constexpr int kServiceWarps = kExchangeWarps + 1;
    if (warp >= kServiceWarps) {
      ColumnWarp<Policy, kMax>(args, shared, team, warp - kServiceWarps, thread % 32).run();
    } else if (warp < kExchangeWarps) {
      ExchangeWarp<Policy, kMax>(args, shared, team, warp, thread % 32).run();
    } else if (loads) {
      loader.run();
    }
  }
}

}  // namespace attn::colreduce
