// The kernel of bulk_sm90: the tokens of a cluster one after the other, later ones' rows on their way.
#pragma once

#include "harness/core/dispatch.h"
#include "impls/arch/sm80/lane.cuh"
#include "impls/arch/sm90/cluster.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/attnres/bulk_config.h"
#include "impls/attnres_phase1_bwd/bulk_gradients.cuh"
#include "impls/attnres_phase1_bwd/bulk_products.cuh"
#include "impls/attnres_phase1_bwd/bulk_weights.cuh"

namespace attn::attnres_phase1_bwd {
namespace bulk {

using attnres::ColumnRange;

/// The tokens of a cluster: every clusters-th one.
struct ClusterTokens {
  int cluster, clusters;

  __device__ static ClusterTokens of(unsigned cta, unsigned ctas, int ranks_log2) {
    return {static_cast<int>(cta >> ranks_log2), static_cast<int>(ctas >> ranks_log2)};
  }
  __device__ int count(std::int64_t all) const {
    return static_cast<int>((all - cluster + clusters - 1) / clusters);
  }
  __device__ std::int64_t token(int i) const {
    return cluster + static_cast<std::int64_t>(i) * clusters;
  }
};

/// The barrier at which the copies into a stage complete.
__device__ inline std::uint32_t full_barrier(const BulkArguments& p, char* memory, int stage) {
  return sm90::shared_address(memory + p.memory.barriers + stage * 8);
}

/// Starts the copies of a token's rows into a stage that nobody reads any more; every warp has some. Bytes
/// that are there before the expectation of them count below zero.
template <class T>
__device__ inline void copy_token(const BulkArguments& p,
                                  const ColumnRange& range,
                                  char* memory,
                                  int warps,
                                  int warp,
                                  std::int64_t token,
                                  int stage) {
  const std::uint32_t full = full_barrier(p, memory, stage);
  const std::uint32_t to = sm90::shared_address(memory + stage * p.memory.stage_bytes);
  const int rows = p.N + p.S;
  const int held_size = p.dv.dtype == DType::kF32 ? 4 : 2;
  const auto bytes = static_cast<std::uint32_t>(range.count * 16);
  const auto held_bytes = static_cast<std::uint32_t>(range.count * 8 * held_size);
  if (warp == 0)
    sm90::mbarrier_arrive_expect(full, static_cast<std::uint32_t>(rows) * bytes +
                                           static_cast<std::uint32_t>(p.held_rows) * held_bytes);
  for (int row = warp; row < rows; row += warps) {
    const T* from = row < p.N
                        ? static_cast<const T*>(p.v.data[row]) + token * p.v.stride
                        : static_cast<const T*>(p.dout) + ((row - p.N) * p.tokens + token) * p.D;
    sm90::bulk_load(to + static_cast<std::uint32_t>(row * p.memory.pitch), from + range.first * 8,
                    bytes, full);
  }
  for (int row = warp; row < p.held_rows; row += warps) {
    const char* from = static_cast<const char*>(p.dv.data[p.held_source[row]]) +
                       (token * p.dv.stride + range.first * 8) * held_size;
    sm90::bulk_load(to + static_cast<std::uint32_t>(p.memory.held + row * p.memory.held_pitch),
                    from, held_bytes, full);
  }
}

/// Zeros where products and gradients read what no copy writes: columns behind the last, dout of queries
/// behind the last, and their weights.
template <int kQueries>
__device__ inline void clear_rest(
    const BulkArguments& p, const ColumnRange& range, char* memory, int warps, int warp, int lane) {
  const int rows = p.N + kQueries;
  const int vectors = p.memory.pitch / 16;
  for (int i = warp; i < p.stages * rows; i += warps) {
    const int row = i % rows;
    auto* to =
        reinterpret_cast<uint4*>(memory + i / rows * p.memory.stage_bytes + row * p.memory.pitch);
    for (int v = (row < p.N + p.S ? range.count : 0) + lane; v < vectors; v += 32)
      to[v] = make_uint4(0, 0, 0, 0);
  }
  auto* weights = reinterpret_cast<uint4*>(memory + p.memory.weights);
  for (int i = warp * 32 + lane; i < p.tiles.count * kQueries * 4; i += warps * 32)
    weights[i] = make_uint4(0, 0, 0, 0);
}

/// One thread initialises the barriers of the copies and of the exchange.
__device__ inline void init_barriers(const BulkArguments& p, char* memory) {
  const int exchanges = p.ranks > 1 ? 2 * p.lanes.passes(p.S) : 0;
  for (int i = 0; i < p.stages + exchanges; ++i) sm90::mbarrier_init(full_barrier(p, memory, i), 1);
  sm90::mbarrier_init_fence();
}

template <class T, int kQueries, int kColumns>
__global__ void __launch_bounds__(32 * kLayoutWarps, 1)
    gradient_kernel(const __grid_constant__ BulkArguments p) {
  extern __shared__ __align__(128) char memory[];
  const auto thread = static_cast<int>(threadIdx.x);
  const auto warps = static_cast<int>(blockDim.x / 32);
  const int warp = __shfl_sync(0xffffffffu, thread / 32, 0);
  const int lane = thread % 32;
  const auto rank = static_cast<int>(sm90::cluster_rank());
  const ColumnRange range = attnres::columns_of(p.D / 8, p.ranks, rank);
  const ClusterTokens tokens = ClusterTokens::of(blockIdx.x, gridDim.x, p.ranks_log2);
  const int count = tokens.count(p.tokens);
  if (thread == 0) init_barriers(p, memory);
  clear_rest<kQueries>(p, range, memory, warps, warp, lane);
  __syncthreads();         // all threads: barriers and zeros are there
  sm90::cluster_arrive();  // all CTAs: barriers of the exchange are initialised
  if (lane == 0) {
    for (int i = 0; i < min(p.stages, count); ++i)
      copy_token<T>(p, range, memory, warps, warp, tokens.token(i), i);
  }
  __syncwarp();
  // Of a thread without columns: nobody asks for its gradients.
  const auto column_of = [&](int lane_in_warp) { return kColumns * (32 * warp + lane_in_warp); };
  const bool owns = column_of(lane) < range.count * 8;
  const TokenProducts<T, kQueries, kColumns> products(p, range.first * 8, range.count * 8, warp,
                                                      lane);
  ColumnGradients<T, kQueries, kColumns> gradients(p, range.first * 8, owns ? column_of(lane) : 0);
  sm90::cluster_wait();

  const int ahead = p.ahead ? 1 : 0;
  int next = 0;  // the stage of token i + ahead
  std::uint32_t phase = 0;
#pragma unroll 1
  for (int i = -ahead; i < count; ++i) {
    if (i + ahead < count) {
      sm90::mbarrier_wait_warp(full_barrier(p, memory, next), phase);
      products.find(p, sm90::shared_address(memory + next * p.memory.stage_bytes), warp,
                    sm80::lane_id(),
                    reinterpret_cast<float*>(memory + p.memory.sums + warp * p.memory.warp_sums));
    }
    __syncthreads();  // all warps: their sums are there
    if (i + ahead < count)
      find_weights<kQueries>(p, memory, warps, warp, sm80::lane_id(), tokens.token(i + ahead),
                             i + ahead);
    if (!p.ahead) __syncthreads();  // all warps: the token's own weights are there
    const int stage = next >= ahead ? next - ahead : p.stages - 1;  // of token i
    if (i >= 0 && owns)
      gradients.find(p, memory, memory + stage * p.memory.stage_bytes, column_of(sm80::lane_id()),
                     i % 2, tokens.token(i));
    // All warps: the stage has been read, and so have the sums; the next token's weights are there.
    __syncthreads();
    if (i >= 0 && i + p.stages < count && sm80::lane_id() == 0)
      copy_token<T>(p, range, memory, warps, warp, tokens.token(i + p.stages), stage);
    __syncwarp();
    if (++next == p.stages) next = 0, phase ^= 1;
  }
  if (owns)
    gradients.store(p, column_of(lane),
                    p.partials + static_cast<std::int64_t>(tokens.cluster) * p.S * p.D);
  __syncwarp();
  sm90::cluster_arrive();  // no CTA ends while another may still send it sums
  sm90::cluster_wait();
}

/// The kernel of a layout's queries and columns.
template <class T>
BulkKernel kernel_for(const BulkLayout& layout) {
  BulkKernel kernel = nullptr;
  dispatch<1, 2, 4, 6, 8, 12, kLayoutQueries>(layout.queries, [&](auto queries) {
    kernel = gradient_kernel<T, queries(), 2>;
    if constexpr (queries() <= 8) {
      if (layout.columns == 4) kernel = gradient_kernel<T, queries(), 4>;
    }
  });
  return kernel;
}

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
