// The kernel of fused_simt: tokens of a team one after the other, the next one's rows on their way.
#pragma once

#include "harness/core/dispatch.h"
#include "impls/attnres_phase1/fused_simt.h"

namespace attn::attnres_phase1 {
namespace simt {

using attnres::kColumns;
using attnres::Rows;
using attnres::Team;

/// Shared memory of a CTA, in the order of attnres::shared_bytes; every part is a multiple of 16 bytes.
template <class T>
struct Shared {
  float* queries;   // of the CTA: split rows
  T* stages;        // of the team: [2, N, groups * 8]
  float* partials;  // of the team: [2, team_warps, sums]
  float* totals;    // of the warp: [kQueries + 1, N]
  float* weights;   // of the warp: [N, kQueries]
};

template <class T, Rows kRows, bool kSharedQueries, int kQueries>
__device__ Shared<T> carve(const attnres::ReadArguments& p, const Team& team, char* memory) {
  const int tiles = (p.S + kQueries - 1) / kQueries;
  const int row = p.groups * kColumns;
  const int sums = (kQueries + 1) * ((p.N + 3) / 4 * 4);
  Shared<T> shared{};
  shared.queries = reinterpret_cast<float*>(memory);
  if (kSharedQueries) memory += sizeof(float) * tiles * kQueries * row;
  const int stage = kRows == Rows::kStaged ? 2 * p.N * row : 0;
  shared.stages = reinterpret_cast<T*>(memory) + team.index * stage;
  memory += sizeof(T) * p.teams * stage;
  auto* floats = reinterpret_cast<float*>(memory);
  shared.partials = floats + team.index * 2 * team.warps * sums;
  floats += p.teams * 2 * team.warps * sums;
  shared.totals = floats + (team.index * team.warps + team.warp) * 2 * sums;
  shared.weights = shared.totals + sums;
  return shared;
}

/// The mixed rows of a tile of queries, from query `first` on.
template <class T, Rows kRows, int kQueries>
__device__ void store_mixes(const SimtArguments& p,
                            const Team& team,
                            const float* weights,
                            const T* staged,
                            std::int64_t token,
                            int first) {
  const attnres::ReadArguments& read = p.read;
  for (int group = team.thread; group < read.groups; group += team.threads()) {
    float mixed[kQueries][kColumns] = {};
    for (int n = 0; n < read.N; ++n) {
      float x[kColumns];
      attnres::load_columns<T, kRows>(attnres::source_row<T, kRows>(read, staged, token, n), group,
                                      read.D, x);
      float p_n[kQueries];
      attnres::load_together(weights + n * kQueries, p_n);
#pragma unroll
      for (int s = 0; s < kQueries; ++s) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) mixed[s][i] += p_n[s] * x[i];
      }
    }
    attnres::as_type(p.out_dtype, [&]<class U>(std::type_identity<U>) {
      U* to = static_cast<U*>(p.out) + (first * read.tokens + token) * read.D;
      std::int64_t plane = read.tokens * read.D;
      // Opaque: the compiler would keep the offsets of all planes in registers over all tokens.
      asm volatile("" : "+l"(plane));
#pragma unroll
      for (int s = 0; s < kQueries; ++s, to += plane) {
        if (first + s < read.S) attnres::store_columns<U, kRows>(to, group, read.D, mixed[s]);
      }
    });
  }
}

template <class T, int kQueries, Rows kRows, bool kSharedQueries>
__global__ void __launch_bounds__(32 * attnres::kCtaWarps, 1)
    read_kernel(const __grid_constant__ SimtArguments p) {
  extern __shared__ __align__(16) char memory[];
  const attnres::ReadArguments& read = p.read;
  const Team team = Team::of(static_cast<int>(threadIdx.x), read.team_warps);
  const Shared<T> shared = carve<T, kRows, kSharedQueries, kQueries>(read, team, memory);
  const int row = read.groups * kColumns;
  const int tiles = (read.S + kQueries - 1) / kQueries;
  const int sums = (kQueries + 1) * read.N;
  const auto stage = [&](std::int64_t token, int slot) {
    if (token < read.tokens)
      attnres::stage_rows(
          team, read.groups, read.N, shared.stages + slot * read.N * row,
          [&](int n) { return static_cast<const T*>(read.v.data[n]) + token * read.v.stride; });
    sm80::cp_async_commit();
  };

  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * read.teams;
  std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * read.teams + team.index;
  if constexpr (kRows == Rows::kStaged) stage(token, 0);
  if constexpr (kSharedQueries) {
    attnres::split_queries(read, tiles * kQueries, shared.queries, static_cast<int>(threadIdx.x),
                           static_cast<int>(blockDim.x));
    __syncthreads();  // all threads: the queries are there
  }
  const float* queries = kSharedQueries ? shared.queries : read.split_wt;
  int slot = 0;    // of the staged rows
  int parity = 0;  // of the partials: a warp may be one tile ahead of another
  for (; token < read.tokens; token += step, slot ^= 1) {
    const T* staged = shared.stages + slot * read.N * row;
    if constexpr (kRows == Rows::kStaged) {
      stage(token + step, slot ^ 1);
      sm80::cp_async_wait<
          1>();  // this token's rows have landed; the thread reads only its own copies
    }
    for (int tile = 0; tile < tiles; ++tile, parity ^= 1) {
      float* partials = shared.partials + parity * team.warps * sums;
      attnres::warp_partials<T, kRows, kQueries>(read, team, queries + tile * kQueries * row,
                                                 staged, token, partials + team.warp * sums);
      team.sync();  // the team's warps: every partial sum is there
      attnres::add_partials(team, partials, sums, shared.totals);
      float* r = shared.totals + kQueries * read.N;
      attnres::finish_squares(read, team.lane, r);
      const int s = tile * kQueries + team.lane;
      if (team.lane < kQueries) {
        const float lse = attnres::depth_softmax(read.N, shared.totals + team.lane * read.N, r,
                                                 shared.weights + team.lane, kQueries);
        if (team.warp == 0 && s < read.S) p.lse[s * read.tokens + token] = lse;
      }
      __syncwarp();
      store_mixes<T, kRows, kQueries>(p, team, shared.weights, staged, token, tile * kQueries);
      __syncwarp();  // the weights and totals may be written again
    }
  }
}

template <class T>
SimtKernel kernel_for(int tile, const attnres::Layout& layout) {
  SimtKernel kernel = nullptr;
  dispatch<1, 2, 4, 8>(tile, [&](auto queries) {
    if (layout.rows == Rows::kStaged) {
      kernel = layout.shared_table ? read_kernel<T, queries(), Rows::kStaged, true>
                                   : read_kernel<T, queries(), Rows::kStaged, false>;
    } else {
      kernel = layout.rows == Rows::kDirect ? read_kernel<T, queries(), Rows::kDirect, false>
                                            : read_kernel<T, queries(), Rows::kSingle, false>;
    }
  });
  return kernel;
}

}  // namespace simt
}  // namespace attn::attnres_phase1
