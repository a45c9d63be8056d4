// What the kernels that read over depth share: their arguments, the copies of a token's rows into shared
// memory, and the inner products of a tile of queries with the sources.
#pragma once

#include <cstdint>

#include "impls/arch/sm80/cp_async.cuh"
#include "impls/attnres/columns.cuh"
#include "impls/attnres/team.cuh"
#include "reference/attnres/contract.h"

namespace attn::attnres {

inline constexpr int kSourceTile = 4;

/// Arguments of every read.
struct ReadArguments {
  Planes v;        // N planes [tokens, D]
  const void* wt;  // [S, D]
  DType wt_dtype;
  const float* split_wt;  // [S rounded up to a tile, 2, groups, 4] fp32, if not in shared memory
  std::int64_t tokens;
  int N, S, D;
  int groups;  // of eight columns
  int team_warps, teams;
  float eps;
};

inline ReadArguments read_arguments(const ReadProblem& p,
                                    const Planes& v,
                                    const TensorView& wt,
                                    const float* split_wt,
                                    int team_warps,
                                    int teams) {
  return {.v = v,
          .wt = wt.data,
          .wt_dtype = wt.dtype,
          .split_wt = split_wt,
          .tokens = p.tokens(),
          .N = static_cast<int>(p.N),
          .S = static_cast<int>(p.S),
          .D = static_cast<int>(p.D),
          .groups = static_cast<int>((p.D + kColumns - 1) / kColumns),
          .team_warps = team_warps,
          .teams = teams,
          .eps = static_cast<float>(p.eps)};
}

/// Element `column` of query s as fp32; queries from S on are 0, and so are columns from D on.
__device__ inline float query_element(const ReadArguments& p, int s, int column) {
  if (s >= p.S || column >= p.D) return 0;
  const std::int64_t at = static_cast<std::int64_t>(s) * p.D + column;
  return as_type(p.wt_dtype, [&]<class T>(std::type_identity<T>) {
    return to_float(static_cast<const T*>(p.wt)[at]);
  });
}

/// Writes `count` queries as split fp32 rows, by threads [thread, threads).
__device__ inline void split_queries(
    const ReadArguments& p, int count, float* to, int thread, int threads) {
  for (int i = thread; i < count * p.groups; i += threads) {
    const int s = i / p.groups;
    const int group = i % p.groups;
    float x[kColumns];
#pragma unroll
    for (int column = 0; column < kColumns; ++column)
      x[column] = query_element(p, s, group * kColumns + column);
    store_split(to + static_cast<std::int64_t>(s) * p.groups * kColumns, p.groups, group, x);
  }
}

/// Source n of a token: staged, or where it lies.
template <class T, Rows kRows>
__device__ inline const T* source_row(const ReadArguments& p,
                                      const T* staged,
                                      std::int64_t token,
                                      int n) {
  if constexpr (kRows == Rows::kStaged) {
    return staged + n * p.groups * kColumns;
  } else {
    return static_cast<const T*>(p.v.data[n]) + token * p.v.stride;
  }
}

/// Starts copies of `rows` rows, row i at from(i), to `stage`. A thread copies the groups that it will
/// read itself, so that nobody else has to see them; one commit closes the token.
template <class T, class From>
__device__ inline void stage_rows(const Team& team, int groups, int rows, T* stage, From&& from) {
  constexpr int kGroupBytes = kColumns * static_cast<int>(sizeof(T));
  for (int group = team.thread; group < groups; group += team.threads()) {
    std::uint32_t to = sm80::shared_address(stage) + group * kGroupBytes;
#pragma unroll 4
    for (int row = 0; row < rows; ++row, to += groups * kGroupBytes) {
      const T* source = from(row) + group * kColumns;
#pragma unroll
      for (int part = 0; part < kGroupVectors<T>; ++part)
        sm80::cp_async_16(to + part * 16, source + part * kVectorElements<T>, true);
    }
  }
}

/// This thread's share of a tile's sums, over its columns.
template <int kQueries, int kSources>
struct TileSums {
  float dots[kQueries * kSources] = {};  // query-major
  float squares[kSources] = {};
};

/// Inner products of kQueries queries, from `queries` on, with kSources sources from `first` on.
template <class T, Rows kRows, int kQueries, int kSources>
__device__ inline void tile_sums(const ReadArguments& p,
                                 const Team& team,
                                 const float* queries,
                                 const T* staged,
                                 std::int64_t token,
                                 int first,
                                 TileSums<kQueries, kSources>& sums) {
  for (int group = team.thread; group < p.groups; group += team.threads()) {
    float x[kSources][kColumns];
#pragma unroll
    for (int n = 0; n < kSources; ++n) {
      load_columns<T, kRows>(source_row<T, kRows>(p, staged, token, first + n), group, p.D, x[n]);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) sums.squares[n] += x[n][i] * x[n][i];
    }
#pragma unroll
    for (int s = 0; s < kQueries; ++s) {
      float w[kColumns];
      load_split(queries + s * p.groups * kColumns, p.groups, group, w);
#pragma unroll
      for (int n = 0; n < kSources; ++n) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) sums.dots[s * kSources + n] += w[i] * x[n][i];
      }
    }
  }
}

/// This warp's sums for all sources: partials[s * N + n] of query s and, in row kQueries, the squares.
template <class T, Rows kRows, int kQueries>
__device__ inline void warp_partials(const ReadArguments& p,
                                     const Team& team,
                                     const float* queries,
                                     const T* staged,
                                     std::int64_t token,
                                     float* partials) {
  const auto tile = [&]<int kSources>(std::integral_constant<int, kSources>, int first) {
    TileSums<kQueries, kSources> sums;
    tile_sums<T, kRows>(p, team, queries, staged, token, first, sums);
    store_warp_sums(sums.dots, team.lane, partials + first,
                    [&](int i) { return i / kSources * p.N + i % kSources; });
    store_warp_sums(sums.squares, team.lane, partials + kQueries * p.N + first,
                    [](int i) { return i; });
  };
  int first = 0;
  for (; first + kSourceTile <= p.N; first += kSourceTile)
    tile(std::integral_constant<int, kSourceTile>{}, first);
  switch (p.N - first) {
    case 3:
      return tile(std::integral_constant<int, 3>{}, first);
    case 2:
      return tile(std::integral_constant<int, 2>{}, first);
    case 1:
      return tile(std::integral_constant<int, 1>{}, first);
    default:
      return;
  }
}

/// The reciprocal RMS of every source in place of its sum of squares; by a whole warp.
__device__ inline void finish_squares(const ReadArguments& p, int lane, float* squares) {
  for (int n = lane; n < p.N; n += 32)
    squares[n] = 1.0f / sqrtf(squares[n] / static_cast<float>(p.D) + p.eps);
  __syncwarp();
}

/// Softmax over depth of one query, by one thread: the weight of source n at weights[n * pitch], from its
/// inner products dots [N] and r [N]. Returns the lse.
__device__ inline float depth_softmax(
    int N, const float* dots, const float* r, float* weights, int pitch) {
  float largest = dots[0] * r[0];
  for (int n = 1; n < N; ++n) largest = fmaxf(largest, dots[n] * r[n]);
  float sum = 0;
  for (int n = 0; n < N; ++n) {
    const float e = expf(dots[n] * r[n] - largest);
    weights[n * pitch] = e;
    sum += e;
  }
  const float scale = 1.0f / sum;
  for (int n = 0; n < N; ++n) weights[n * pitch] *= scale;
  return largest + logf(sum);
}

}  // namespace attn::attnres
