// The row-resident kernel: sets a CTA up and gives its warpgroups their roles.
#pragma once

#include <cooperative_groups.h>

#include <cstdint>

#include "impls/arch/sm90/registers.cuh"
#include "impls/colreduce/resident_columns.cuh"
#include "impls/colreduce/resident_loads.cuh"
#include "impls/colreduce/resident_scores.cuh"

namespace attn::colreduce {

/// Barriers, counters, and this rank's packets in global memory. All threads call it.
template <class Policy>
__device__ inline void prepare(const ResidentArguments& args,
                               typename Policy::Shared& shared,
                               const Team& team,
                               int thread) {
  using sm90::mbarrier_init;
  using sm90::shared_address;
  if (thread == 0) {
    constexpr int kCrewWarps = 4 * Policy::kCrewGroups;
    for (auto& barrier : shared.key_full) mbarrier_init(shared_address(&barrier), 1);
    for (auto& barrier : shared.key_free)
      mbarrier_init(shared_address(&barrier), 4 * Policy::kCrews);
    for (auto& barrier : shared.query_free) mbarrier_init(shared_address(&barrier), kCrewWarps);
    for (auto& barrier : shared.query_full) mbarrier_init(shared_address(&barrier), 1);
    for (auto& slot : shared.weight_free)
      for (auto& barrier : slot) mbarrier_init(shared_address(&barrier), Policy::kSharers);
    for (auto& barrier : shared.tile_full) mbarrier_init(shared_address(&barrier), kCrewWarps);
    for (auto& barrier : shared.factor_full) mbarrier_init(shared_address(&barrier), 1);
    for (auto& barrier : shared.tile_free) mbarrier_init(shared_address(&barrier), kColumnWarps);
    sm90::mbarrier_init_fence();
    for (auto& end : shared.poison_end) end = 0;
  }
  constexpr int kPackets = kPacketSlots * kTileRows;
  std::uint64_t* packets = packets_of(args, team, team.tiles.rank, 0);
  for (int i = thread; i < kPackets; i += Policy::kThreads) packets[i] = 0;
  if (team.tiles.rank == 0) {
    std::uint64_t* results = results_of(args, team, 0);
    for (int i = thread; i < kPackets; i += Policy::kThreads) results[i] = 0;
    std::uint64_t* totals = total_of(args, team, 0, 0);
    for (int i = thread; i < kTotalSlots * kTileRows * kTotalSpread; i += Policy::kThreads)
      totals[i] = 0;
  }
}

template <class Element, class Policy, bool kMax>
__global__ void __launch_bounds__(Policy::kThreads, 1)
    resident_kernel(const __grid_constant__ ResidentArguments args) {
  extern __shared__ __align__(1024) unsigned char raw[];
  auto& shared = *reinterpret_cast<typename Policy::Shared*>(raw);
  const Team team = make_team<Policy>(args, blockIdx.x);
  const auto thread = static_cast<int>(threadIdx.x);
  prepare<Policy>(args, shared, team, thread);
  __syncthreads();  // all threads: barriers and counters are ready
  const int group = __shfl_sync(0xffffffffu, thread / 128, 0);
  const int warp = __shfl_sync(0xffffffffu, thread / 32 - 4 * Policy::kScoreGroups, 0);
  Loader<Policy> loader(args, shared, team);
  const bool loads = warp == kExchangeWarps && thread % 32 == 0;
  if (loads) loader.begin();
  __syncwarp();
  cooperative_groups::this_grid().sync();  // all CTAs: every packet is zero; loads are on their way

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
