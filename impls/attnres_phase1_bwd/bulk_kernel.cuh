// The kernel of bulk_sm90: warps with a role each, which meet at barriers around the ring of tokens.
#pragma once

#include "harness/core/dispatch.h"
#include "impls/arch/sm80/lane.cuh"
#include "impls/arch/sm90/barrier.cuh"
#include "impls/arch/sm90/cluster.cuh"
#include "impls/arch/sm90/registers.cuh"
#include "impls/attnres_phase1_bwd/bulk_gradients.cuh"
#include "impls/attnres_phase1_bwd/bulk_products.cuh"
#include "impls/attnres_phase1_bwd/bulk_ring.cuh"
#include "impls/attnres_phase1_bwd/bulk_weights.cuh"

namespace attn::attnres_phase1_bwd {
namespace bulk {

// 96 registers a thread at launch; a CTA of up to four warpgroups of gradients and one of others has them
// for all of these.
inline constexpr int kGradientRegisters = 104;
inline constexpr int kOtherRegisters = 64;
inline constexpr int kLaunchRegisters = 65536 / (32 * kSmWarps) / 8 * 8;
static_assert(kLayoutWarps * kGradientRegisters + kOtherWarps * kOtherRegisters <=
                  kSmWarps * kLaunchRegisters,
              "warpgroups may only take what others have given");
static_assert(4 * kGradientRegisters + kOtherWarps * kOtherRegisters <=
                  (4 + kOtherWarps) * kLaunchRegisters,
              "and with a single warpgroup of gradients too");

/// What a CTA has to do.
struct Work {
  ColumnRange range;
  ClusterTokens tokens;
  Barriers barriers;
};

/// The role of the last warp: copies, as soon as a stage is free. The first tokens' are under way.
template <class T>
__device__ inline void copy_tokens(const BulkArguments& p,
                                   const Work& work,
                                   char* memory,
                                   int lane) {
  RingCursor cursor;
  for (int i = p.stages; work.tokens.has(i); ++i) {
    // The warps of gradients have left the stage.
    sm90::mbarrier_wait_warp(work.barriers.free(cursor.stage), cursor.phase);
    copy_token<T>(p, work.range, memory, work.barriers, lane, work.tokens.token(i), cursor.stage);
    cursor.advance(p.stages);
  }
}

/// The passes of a token that warp `warp` of kProductWarps takes.
template <int kQueries, int kRounds>
__device__ inline void find_weights(const BulkArguments& p,
                                    char* memory,
                                    int warp,
                                    int lane,
                                    std::int64_t token,
                                    float first_dlse,
                                    int number) {
  for (int pass = warp; pass < p.lanes.passes(p.S); pass += kProductWarps) {
    const WeightPass<kQueries, kRounds> weights(p, memory, pass, lane);
    weights.find(pass == warp ? first_dlse : weights.load_dlse(token), number);
  }
}

/// The role of kProductWarps warps: a token's products, each its share of the columns, then its weights,
/// each its share of the passes.
template <class T, int kQueries>
__device__ inline void find_all_weights(const BulkArguments& p,
                                        const Work& work,
                                        char* memory,
                                        int warp) {
  constexpr int kName = 1;  // of a barrier of the warps of this role
  constexpr int kThreads = 32 * kProductWarps;
  const int steps = (work.range.count * 8 + kBlockColumns - 1) / kBlockColumns;
  const StepShare own = StepShare::of(steps, p.N, p.lanes.passes(p.S), warp);
  const std::uint32_t queries = sm90::shared_address(memory + p.memory.queries);
  auto* sums = reinterpret_cast<float*>(memory + p.memory.sums + warp * p.memory.warp_sums);
  RingCursor cursor;
  RingCursor freed;  // of the token two before
  for (int i = 0; work.tokens.has(i); ++i) {
    const int lane = sm80::lane_id();  // anew: what comes of it is not kept across the products
    const std::int64_t token = work.tokens.token(i);
    // Loaded first, so that it arrives during the products.
    const float dlse = WeightPass<kQueries, 1>(p, memory, warp, lane).load_dlse(token);
    sm90::mbarrier_wait_warp(work.barriers.full(cursor.stage), cursor.phase);
    TokenProducts<T, kQueries> products(
        p, sm90::shared_address(memory + cursor.stage * p.memory.stage_bytes), queries, own, lane);
    for (int column = 0; column < p.N; column += 8) {
      products.multiply(column);
      // This role's warps: all have read the sums of the token before.
      if (column == 0) sm90::named_barrier_sync(kName, kThreads);
      products.store(column, sums);
    }
    sm90::named_barrier_sync(kName, kThreads);  // this role's warps: the sums are there
    if (i >= 2) {
      // The warps of gradients have read the weights that these take the place of.
      sm90::mbarrier_wait_warp(work.barriers.free(freed.stage), freed.phase);
      freed.advance(p.stages);
    }
    if (p.N > 32) {
      find_weights<kQueries, 2>(p, memory, warp, lane, token, dlse, i);
    } else {
      find_weights<kQueries, 1>(p, memory, warp, lane, token, dlse, i);
    }
    __syncwarp();
    if (lane == 0) sm90::mbarrier_arrive(work.barriers.ready(i % 2));
    cursor.advance(p.stages);
  }
}

/// The role of the first warps, of those that have columns.
template <class T, int kQueries, int kBlocks>
__device__ inline void find_gradients(
    const BulkArguments& p, const Work& work, char* memory, int warp, int lane) {
  WarpGradients<T, kQueries, kBlocks> gradients(p, work.range, memory, warp, lane);
  RingCursor cursor;
#pragma unroll 1
  for (int i = 0; work.tokens.has(i); ++i) {
    // The token's weights are there, and so are its rows, since products came of them; the wait for
    // these is what makes the copies visible.
    sm90::mbarrier_wait(work.barriers.ready(i % 2), static_cast<std::uint32_t>(i / 2 % 2));
    sm90::mbarrier_wait_warp(work.barriers.full(cursor.stage), cursor.phase);
    gradients.find(memory + cursor.stage * p.memory.stage_bytes, i % 2, work.tokens.token(i));
    __syncwarp();
    if (sm80::lane_id() == 0) sm90::mbarrier_arrive(work.barriers.free(cursor.stage));
    cursor.advance(p.stages);
  }
  gradients.store(p.partials + static_cast<std::int64_t>(work.tokens.cluster) * p.S * p.D,
                  work.range.first);
}

template <class T, int kQueries, int kBlocks>
__global__ void __launch_bounds__(32 * kSmWarps, 1)
    gradient_kernel(const __grid_constant__ BulkArguments p) {
  extern __shared__ __align__(128) char memory[];
  const auto thread = static_cast<int>(threadIdx.x);
  const int warp = __shfl_sync(0xffffffffu, thread / 32, 0);
  const auto rank = static_cast<int>(sm90::cluster_rank());
  const Work work{.range = columns_of(p, rank),
                  .tokens = ClusterTokens::of(p.tokens, blockIdx.x, gridDim.x, p.ranks_log2),
                  .barriers = Barriers::of(p, memory)};
  const int active = active_warps(work.range.count, kBlocks);
  if (thread == 0) init_barriers(p, work.barriers, active);
  fill_rest<T>(p, work.range, memory, 2 * p.memory.padded * 2 * kQueries, thread,
               static_cast<int>(blockDim.x));
  __syncthreads();         // all threads: barriers, queries and zeros are there
  sm90::cluster_arrive();  // all CTAs: barriers of the exchange are initialised
  if (warp == p.warps + kProductWarps) {
    for (int i = 0; i < p.stages && work.tokens.has(i); ++i)
      copy_token<T>(p, work.range, memory, work.barriers, sm80::lane_id(), work.tokens.token(i), i);
  }
  sm90::cluster_wait();

  if (warp >= p.warps) {
    sm90::give_registers<kOtherRegisters>();
    if (warp == p.warps + kProductWarps) {
      copy_tokens<T>(p, work, memory, sm80::lane_id());
    } else {
      find_all_weights<T, kQueries>(p, work, memory, warp - p.warps);
    }
  } else {
    sm90::take_registers<kGradientRegisters>();
    if (warp < active) find_gradients<T, kQueries, kBlocks>(p, work, memory, warp, sm80::lane_id());
  }
  __syncwarp();
  sm90::cluster_arrive();  // no CTA ends while another may still send it sums
  sm90::cluster_wait();
}

/// The kernel of a layout's queries and blocks.
template <class T>
BulkKernel kernel_for(const BulkLayout& layout) {
  BulkKernel kernel = nullptr;
  dispatch<4, 8, 12, kLayoutQueries>(layout.queries, [&](auto queries) {
    kernel =
        layout.blocks == 1 ? gradient_kernel<T, queries(), 1> : gradient_kernel<T, queries(), 2>;
    if constexpr (queries() <= 8) {
      if (layout.blocks == 3) kernel = gradient_kernel<T, queries(), 3>;
      if (layout.blocks == 4) kernel = gradient_kernel<T, queries(), 4>;
    }
  });
  return kernel;
}

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
