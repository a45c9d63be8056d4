// The kernel of fused_simt: the tokens of a CTA one after the other, the next one's rows on their way.
#pragma once

#include <type_traits>

#include "harness/core/dispatch.h"
#include "impls/attnres_phase1_bwd/fused_simt.h"
#include "impls/attnres_phase1_bwd/query_gradient.cuh"

namespace attn::attnres_phase1_bwd {
namespace simt {

using attnres::kColumns;
using attnres::Rows;
using attnres::Team;
constexpr int kTile = attnres::kSourceTile;

/// Shared memory of a CTA. S and N are rounded up: [S, N] arrays hold whole tiles.
struct Shared {
  float* table;     // [S, groups * 8] split rows: queries or their gradient, if it is shared
  char* stages;     // [2, N + S, groups * 8] of the rows' type, if they are staged
  float* partials;  // [warps, sums]
  float* totals;    // <wt_s, v_n> [S, N], <dout_s, v_n> [S, N]
  float* p;         // [S, N] weights
  float* gr;        // [S, N] gradients of the logits, times r
  float* gl;        // [S, N] the same, times the logits
  float* r;         // [N] of the warp: squares, then reciprocal RMS
  float* k;         // [N] of the warp: what a source's norm gives back, per element of it
};

/// Sizes that carve, the host and the kernel agree on.
struct Sizes {
  int S, N, sums;

  __host__ __device__ static Sizes of(int S, int N, int tile) {
    const int padded_S = (S + tile - 1) / tile * tile;
    const int padded_N = (N + kTile - 1) / kTile * kTile;
    return {padded_S, padded_N, (2 * padded_S + 1) * padded_N};
  }
};

__device__ inline Shared carve(const attnres::ReadArguments& p,
                               const Team& team,
                               const Sizes& size,
                               bool shared_table,
                               std::size_t stage,
                               char* memory) {
  Shared shared{};
  shared.table = reinterpret_cast<float*>(memory);
  if (shared_table) memory += sizeof(float) * p.S * p.groups * kColumns;
  shared.stages = memory;
  memory += 2 * stage;
  shared.partials = reinterpret_cast<float*>(memory);
  shared.totals = shared.partials + p.team_warps * size.sums;
  shared.p = shared.totals + 2 * size.S * size.N;
  shared.gr = shared.p + size.S * size.N;
  shared.gl = shared.gr + size.S * size.N;
  shared.r = shared.gl + size.S * size.N + team.warp * 2 * size.N;
  shared.k = shared.r + size.N;
  return shared;
}

/// One token's rows: staged, or where they lie.
template <class T, Rows kRows>
struct TokenRows {
  const SimtArguments& p;
  const T* staged;  // N rows of sources, then S rows of dout
  std::int64_t token;

  __device__ void source(int n, int group, float (&x)[kColumns]) const {
    const attnres::ReadArguments& read = p.read;
    if constexpr (kRows == Rows::kSingle) {
      attnres::load_columns_as<kRows>(read.v.data[n], read.v.dtype, token * read.v.stride, group,
                                      read.D, x);
    } else {
      attnres::load_group(attnres::source_row<T, kRows>(read, staged, token, n), group, x);
    }
  }
  __device__ void dout(int s, int group, float (&x)[kColumns]) const {
    const attnres::ReadArguments& read = p.read;
    const std::int64_t first = (s * read.tokens + token) * read.D;
    if constexpr (kRows == Rows::kSingle) {
      attnres::load_columns_as<kRows>(p.dout, p.dout_dtype, first, group, read.D, x);
    } else if constexpr (kRows == Rows::kDirect) {
      attnres::load_group(static_cast<const T*>(p.dout) + first, group, x);
    } else {
      attnres::load_group(staged + (read.N + s) * read.groups * kColumns, group, x);
    }
  }
  /// The gradient of source n: written, or added to what is there.
  __device__ void store(int n, int group, float (&x)[kColumns]) const {
    const std::int64_t first = token * p.dv.stride;
    float held[kColumns];
    if (p.add[n]) {
      if constexpr (kRows == Rows::kSingle) {
        attnres::load_columns_as<kRows>(p.dv.data[n], p.dv.dtype, first, group, p.read.D, held);
      } else {
        attnres::load_group(static_cast<const T*>(p.dv.data[n]) + first, group, held);
      }
#pragma unroll
      for (int i = 0; i < kColumns; ++i) x[i] += held[i];
    }
    if constexpr (kRows == Rows::kSingle) {
      attnres::store_columns_as<kRows>(p.dv.data[n], p.dv.dtype, first, group, p.read.D, x);
    } else {
      attnres::store_group(static_cast<T*>(p.dv.data[n]) + first, group, x);
    }
  }
};

/// This warp's shares of the inner products of kQueries queries and their dout with a tile of sources.
/// Sources and queries behind the last are computed as the last, and nobody reads them.
template <class T, Rows kRows, int kQueries>
__device__ void tile_products(const TokenRows<T, kRows>& rows,
                              const Team& team,
                              const Sizes& size,
                              const float* queries,
                              int first_query,
                              int first_source,
                              float* partials) {
  const attnres::ReadArguments& read = rows.p.read;
  float logits[kQueries * kTile] = {};
  float products[kQueries * kTile] = {};
  float squares[kTile] = {};
  for (int group = team.thread; group < read.groups; group += team.threads()) {
    float x[kTile][kColumns];
#pragma unroll
    for (int n = 0; n < kTile; ++n) {
      rows.source(min(first_source + n, read.N - 1), group, x[n]);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) squares[n] += x[n][i] * x[n][i];
    }
#pragma unroll
    for (int s = 0; s < kQueries; ++s) {
      const int query = min(first_query + s, read.S - 1);
      float w[kColumns];
      float dout[kColumns];
      attnres::load_split(queries + query * read.groups * kColumns, read.groups, group, w);
      rows.dout(query, group, dout);
#pragma unroll
      for (int n = 0; n < kTile; ++n) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) {
          logits[s * kTile + n] += w[i] * x[n][i];
          products[s * kTile + n] += dout[i] * x[n][i];
        }
      }
    }
  }
  const auto at = [&](int i) {
    return (first_query + i / kTile) * size.N + first_source + i % kTile;
  };
  attnres::store_warp_sums(logits, team.lane, partials, at);
  attnres::store_warp_sums(products, team.lane, partials + size.S * size.N, at);
  attnres::store_warp_sums(squares, team.lane, partials + 2 * size.S * size.N,
                           [&](int i) { return first_source + i; });
}

/// Weights and gradients of the logits of query s, by one thread.
__device__ inline void query_gradient(
    const SimtArguments& p, const Sizes& size, const Shared& shared, std::int64_t token, int s) {
  const attnres::ReadArguments& read = p.read;
  // Loaded first, so that it arrives during the softmax.
  const float dlse = p.dlse ? p.dlse[s * read.tokens + token] : 0.0f;
  const float* r = shared.r;
  const float* dots = shared.totals + s * size.N;
  const float* c = shared.totals + (size.S + s) * size.N;
  float* weights = shared.p + s * size.N;
  attnres::depth_softmax(read.N, dots, r, weights, 1);
  float mean = 0;
  for (int n = 0; n < read.N; ++n) mean += weights[n] * c[n];
  for (int n = 0; n < read.N; ++n) {
    // Of one source the output is the source: no rounding may leave its logit a gradient.
    const float centred = read.N == 1 ? 0.0f : c[n] - mean;
    const float g = weights[n] * (centred + dlse);
    shared.gr[s * size.N + n] = g * r[n];
    shared.gl[s * size.N + n] = g * dots[n] * r[n];
  }
}

/// Entry i of the warps' sums, added up in order.
__device__ inline float total(const Team& team, const Sizes& size, const Shared& shared, int i) {
  float sum = shared.partials[i];
  for (int warp = 1; warp < team.warps; ++warp) sum += shared.partials[warp * size.sums + i];
  return sum;
}

/// Weights and gradients of the logits of every warps-th query, by a whole warp.
__device__ inline void query_gradients(const SimtArguments& p,
                                       const Team& team,
                                       const Sizes& size,
                                       const Shared& shared,
                                       std::int64_t token) {
  const int products = size.S * size.N;
  for (int n = team.lane; n < p.read.N; n += 32)
    shared.r[n] = total(team, size, shared, 2 * products + n);
  for (int s = team.warp; s < p.read.S; s += team.warps) {
    for (int i = team.lane; i < 2 * size.N; i += 32) {
      const int at = (i < size.N ? 0 : products - size.N) + s * size.N + i;
      shared.totals[at] = total(team, size, shared, at);
    }
  }
  attnres::finish_squares(p.read, team.lane, shared.r);  // and all lanes: the totals are there
  for (int s = team.warp + team.lane * team.warps; s < p.read.S; s += 32 * team.warps)
    query_gradient(p, size, shared, token, s);
}

/// What the norms give back, from the gradients of all queries' logits; every warp for itself.
__device__ inline void norm_gradients(const attnres::ReadArguments& p,
                                      const Team& team,
                                      const Sizes& size,
                                      const Shared& shared) {
  for (int n = team.lane; n < size.N; n += 32) {
    float sum = 0;
    for (int s = 0; s < p.S; ++s) sum += shared.gl[s * size.N + n];
    shared.k[n] = n < p.N ? sum * shared.r[n] * shared.r[n] / static_cast<float>(p.D) : 0.0f;
  }
  __syncwarp();
}

/// A tile of sources at one group of columns, and their gradients.
struct SourceTile {
  float x[kTile][kColumns];
  float dv[kTile][kColumns];
};

/// What query s gives the gradients of a tile of sources from `first` on, and what they give its own.
template <class T, Rows kRows>
__device__ inline void add_query(const TokenRows<T, kRows>& rows,
                                 const Sizes& size,
                                 const Shared& shared,
                                 const float* queries,
                                 int s,
                                 int first,
                                 int group,
                                 SourceTile& tile,
                                 float (&dw)[kColumns]) {
  const attnres::ReadArguments& read = rows.p.read;
  const int query = min(s, read.S - 1);
  float w[kColumns];
  float dout[kColumns];
  float p[kTile];
  float gr[kTile];
  attnres::load_split(queries + query * read.groups * kColumns, read.groups, group, w);
  rows.dout(query, group, dout);
  attnres::load_together(shared.p + s * size.N + first, p);
  attnres::load_together(shared.gr + s * size.N + first, gr);
#pragma unroll
  for (int n = 0; n < kTile; ++n) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      tile.dv[n][i] += p[n] * dout[i] + gr[n] * w[i];
      dw[i] += gr[n] * tile.x[n][i];
    }
  }
}

/// Gradients of a tile of sources, and what they give the queries' gradient, at one group of columns.
template <class T, Rows kRows, class Gradient>
__device__ void tile_gradients(const TokenRows<T, kRows>& rows,
                               const Sizes& size,
                               const Shared& shared,
                               const float* queries,
                               int first,
                               int group,
                               Gradient& gradient) {
  const attnres::ReadArguments& read = rows.p.read;
  SourceTile tile;
#pragma unroll
  for (int n = 0; n < kTile; ++n) {
    rows.source(min(first + n, read.N - 1), group, tile.x[n]);
    const float k = shared.k[first + n];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) tile.dv[n][i] = -k * tile.x[n][i];
  }
  gradient.for_queries(read, group, [&](int s, float(&dw)[kColumns]) {
    add_query(rows, size, shared, queries, s, first, group, tile, dw);
  });
#pragma unroll
  for (int n = 0; n < kTile; ++n) {
    if (first + n < read.N) rows.store(first + n, group, tile.dv[n]);
  }
}

/// kHeld queries have their gradient in registers and themselves in shared memory; 0: any number, in
/// global memory.
template <class T, int kQueries, Rows kRows, bool kSharedTable, int kHeld = 0>
__global__ void __launch_bounds__(32 * kSimtWarps, 1)
    read_bwd_kernel(const __grid_constant__ SimtArguments p) {
  extern __shared__ __align__(16) char memory[];
  const attnres::ReadArguments& read = p.read;
  const Team team = Team::of(static_cast<int>(threadIdx.x), read.team_warps);
  const Sizes size = Sizes::of(read.S, read.N, kQueries);
  const int row = read.groups * kColumns;
  const int staged_rows = kRows == Rows::kStaged ? read.N + read.S : 0;
  const Shared shared =
      carve(read, team, size, kSharedTable, sizeof(T) * staged_rows * row, memory);
  float* share = p.partials + static_cast<std::int64_t>(blockIdx.x) * read.S * row;
  const float* queries = kHeld > 0 ? shared.table : read.split_wt;
  std::conditional_t<(kHeld > 0), HeldGradient<kHeld>, StoredGradient> gradient{};
  const auto stage = [&](std::int64_t token, int slot) {
    if (token < read.tokens) {
      T* to = reinterpret_cast<T*>(shared.stages) + slot * staged_rows * row;
      const T* dout = static_cast<const T*>(p.dout) + token * read.D;
      attnres::stage_rows(team, read.groups, read.N, to, [&](int n) {
        return static_cast<const T*>(read.v.data[n]) + token * read.v.stride;
      });
      attnres::stage_rows(team, read.groups, read.S, to + read.N * row,
                          [&](int s) { return dout + s * read.tokens * read.D; });
    }
    sm80::cp_async_commit();
  };

  if constexpr (kRows == Rows::kStaged) stage(blockIdx.x, 0);
  if constexpr (kHeld > 0) {  // a thread has its columns to itself: no barrier
    copy_columns(read, team, read.split_wt, shared.table);
  } else {
    gradient.rows = kSharedTable ? shared.table : share;
    clear_columns(read, team, gradient.rows);
  }
  for (int i = team.thread; i < 3 * size.S * size.N; i += team.threads())
    shared.p[i] = 0;  // what lies behind the last query or source stays 0
  int slot = 0;
  for (std::int64_t token = blockIdx.x; token < read.tokens; token += gridDim.x, slot ^= 1) {
    const TokenRows<T, kRows> rows{
        p, reinterpret_cast<const T*>(shared.stages) + slot * staged_rows * row, token};
    if constexpr (kRows == Rows::kStaged) {
      stage(token + gridDim.x, slot ^ 1);
      sm80::cp_async_wait<
          1>();  // this token's rows have landed; the thread reads only its own copies
    }
    for (int s = 0; s < read.S; s += kQueries) {
      for (int n = 0; n < read.N; n += kTile)
        tile_products<T, kRows, kQueries>(rows, team, size, queries, s, n,
                                          shared.partials + team.warp * size.sums);
    }
    __syncthreads();  // all warps: their sums are there; the last token's scalars have been read
    query_gradients(p, team, size, shared, token);
    __syncthreads();  // all warps: weights and gradients of the logits are there
    norm_gradients(read, team, size, shared);
    for (int group = team.thread; group < read.groups; group += team.threads()) {
      for (int n = 0; n < read.N; n += kTile)
        tile_gradients(rows, size, shared, queries, n, group, gradient);
    }
  }
  if constexpr (kHeld > 0) {
    gradient.store(read, team.thread, share);
  } else if constexpr (kSharedTable) {
    copy_columns(read, team, shared.table, share);
  }
}

template <class T>
SimtKernel kernel_for(int held, int tile, const attnres::Layout& layout) {
  if (held == 1) return read_bwd_kernel<T, 1, Rows::kStaged, true, 1>;
  if (held == 4) return read_bwd_kernel<T, 4, Rows::kStaged, true, 4>;
  if (held == 8) return read_bwd_kernel<T, 4, Rows::kStaged, true, 8>;
  SimtKernel kernel = nullptr;
  dispatch<1, 4>(tile, [&](auto queries) {
    if (layout.rows == Rows::kStaged) {
      kernel = read_bwd_kernel<T, queries(), Rows::kStaged, true>;
    } else {
      kernel = layout.shared_table ? read_bwd_kernel<T, queries(), Rows::kDirect, true>
                                   : read_bwd_kernel<T, queries(), Rows::kDirect, false>;
    }
  });
  return kernel;
}

}  // namespace simt
}  // namespace attn::attnres_phase1_bwd
