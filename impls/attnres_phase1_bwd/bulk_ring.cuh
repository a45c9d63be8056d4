// The ring of stages: a cluster's tokens, the copies of their rows, and the barriers around them.
#pragma once

#include <cstdint>

#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/attnres/bulk_config.h"
#include "impls/attnres_phase1_bwd/bulk_sm90.h"

namespace attn::attnres_phase1_bwd {
namespace bulk {

using attnres::ColumnRange;

/// What CTA `rank` of a cluster has: as attnres::columns_of, but without divisions.
__device__ inline ColumnRange columns_of(const BulkArguments& p, int rank) {
  const int groups = p.D / 8;
  const int first = rank * groups >> p.ranks_log2;
  return {first, ((rank + 1) * groups >> p.ranks_log2) - first};
}

/// The tokens of a cluster: every clusters-th one of the problem's.
struct ClusterTokens {
  std::int64_t all;
  int cluster, clusters;

  __device__ static ClusterTokens of(std::int64_t all,
                                     unsigned cta,
                                     unsigned ctas,
                                     int ranks_log2) {
    return {all, static_cast<int>(cta >> ranks_log2), static_cast<int>(ctas >> ranks_log2)};
  }
  __device__ std::int64_t token(int i) const {
    return cluster + static_cast<std::int64_t>(i) * clusters;
  }
  __device__ bool has(int i) const { return token(i) < all; }
};

/// The barriers of a CTA. Whoever waits at one waits for each of its phases, in order, and none is two
/// ahead of a waiter: a stage is filled again only after all have left it, weights are written again only
/// after all have read them.
struct Barriers {
  std::uint32_t first;
  int stages;

  __device__ static Barriers of(const BulkArguments& p, char* memory) {
    return {sm90::shared_address(memory + p.memory.barriers), p.stages};
  }
  /// A token's rows have landed: the copies arrive.
  __device__ std::uint32_t full(int stage) const { return at(stage); }
  /// Nobody reads the stage's rows, or the weights of its token, any more: the warps of gradients arrive.
  __device__ std::uint32_t free(int stage) const { return at(stages + stage); }
  /// The weights of set `set` are there: the warps that find them arrive.
  __device__ std::uint32_t ready(int set) const { return at(2 * stages + set); }
  /// Of a pass: a cluster's sums have come.
  __device__ std::uint32_t exchange(int pass, int set) const {
    return at(2 * stages + 2 + 2 * pass + set);
  }

 private:
  __device__ std::uint32_t at(int i) const { return first + static_cast<std::uint32_t>(8 * i); }
};

/// A place in the ring, and the parity of its phase.
struct RingCursor {
  int stage = 0;
  std::uint32_t phase = 0;

  __device__ void advance(int stages) {
    if (++stage == stages) stage = 0, phase ^= 1;
  }
};

/// Warps of a CTA that have columns. `columns` are groups of eight.
__device__ inline int active_warps(int columns, int blocks) {
  const int width = blocks * kBlockColumns / 8;
  return (columns + width - 1) / width;
}

/// By one thread, before a barrier of the CTA, or of the cluster where there is one.
__device__ inline void init_barriers(const BulkArguments& p, const Barriers& barriers, int active) {
  for (int stage = 0; stage < p.stages; ++stage) {
    sm90::mbarrier_init(barriers.full(stage), 1);
    sm90::mbarrier_init(barriers.free(stage), static_cast<std::uint32_t>(active));
  }
  const int passes = p.ranks > 1 ? p.lanes.passes(p.S) : 0;
  for (int set = 0; set < 2; ++set) {
    sm90::mbarrier_init(barriers.ready(set), kProductWarps);
    for (int pass = 0; pass < passes; ++pass) sm90::mbarrier_init(barriers.exchange(pass, set), 1);
  }
  sm90::mbarrier_init_fence();
}

/// A warp starts the copies of a token's rows into a stage that nobody reads any more. Bytes that are there
/// before the expectation of them count below zero.
template <class T>
__device__ inline void copy_token(const BulkArguments& p,
                                  const ColumnRange& range,
                                  char* memory,
                                  const Barriers& barriers,
                                  int lane,
                                  std::int64_t token,
                                  int stage) {
  const std::uint32_t full = barriers.full(stage);
  const std::uint32_t to = sm90::shared_address(memory + stage * p.memory.stage_bytes);
  const int rows = p.N + p.S;
  const int held_size = p.dv.dtype == DType::kF32 ? 4 : 2;
  const auto bytes = static_cast<std::uint32_t>(range.count * 16);
  const auto held_bytes = static_cast<std::uint32_t>(range.count * 8 * held_size);
  if (lane == 0)
    sm90::mbarrier_arrive_expect(full, static_cast<std::uint32_t>(rows) * bytes +
                                           static_cast<std::uint32_t>(p.held_rows) * held_bytes);
  for (int row = lane; row < rows; row += 32) {
    const T* from = row < p.N
                        ? static_cast<const T*>(p.v.data[row]) + token * p.v.stride
                        : static_cast<const T*>(p.dout) + ((row - p.N) * p.tokens + token) * p.D;
    sm90::bulk_load(to + static_cast<std::uint32_t>(row * p.memory.pitch), from + range.first * 8,
                    bytes, full);
  }
  for (int row = lane; row < p.held_rows; row += 32) {
    const char* from = static_cast<const char*>(p.dv.data[p.held_source[row]]) +
                       (token * p.dv.stride + range.first * 8) * held_size;
    sm90::bulk_load(to + static_cast<std::uint32_t>(p.memory.held + row * p.memory.held_pitch),
                    from, held_bytes, full);
  }
  __syncwarp();
}

/// By all threads of the CTA: the queries, where each source's gradient goes, and zeros where products and
/// gradients read what nobody writes: columns behind the last, and weights of pairs that do not exist.
template <class T>
__device__ inline void fill_rest(const BulkArguments& p,
                                 const ColumnRange& range,
                                 char* memory,
                                 int weight_floats,
                                 int thread,
                                 int threads) {
  const int rows = p.N + p.S;
  const int warp = thread / 32;
  const int vectors = p.memory.pitch / 16;
  for (int i = warp; i < p.stages * rows; i += threads / 32) {
    char* row = memory + i / rows * p.memory.stage_bytes + i % rows * p.memory.pitch;
    for (int v = range.count + thread % 32; v < vectors; v += 32)
      reinterpret_cast<uint4*>(row)[v] = make_uint4(0, 0, 0, 0);
  }
  for (int i = thread; i < p.S * vectors; i += threads) {
    const int s = i / vectors;
    const int v = i % vectors;
    const T* row = static_cast<const T*>(p.wt) + static_cast<std::int64_t>(s) * p.D;
    reinterpret_cast<uint4*>(memory + p.memory.queries + s * p.memory.pitch)[v] =
        v < range.count ? reinterpret_cast<const uint4*>(row)[range.first + v]
                        : make_uint4(0, 0, 0, 0);
  }
  for (int i = thread; i < weight_floats; i += threads)
    reinterpret_cast<float*>(memory + p.memory.weights)[i] = 0;
  const int size = p.dv.dtype == DType::kF32 ? 4 : 2;
  for (int n = thread; n < p.N; n += threads) {
    SourceOutput output;
    output.row = static_cast<char*>(p.dv.data[n]) + range.first * 8 * size;
    output.held = p.held_row[n] < 0 ? -1 : p.memory.held + p.held_row[n] * p.memory.held_pitch;
    reinterpret_cast<SourceOutput*>(memory + p.memory.outputs)[n] = output;
  }
}

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
