// The mix of a token whose rows come from the caches twice: any number of rows, of any width and address.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "impls/attnres/columns.cuh"
#include "impls/attnres/merge_kernel.cuh"
#include "impls/attnres/team.cuh"
#include "impls/attnres_mix/mix_arguments.h"
#include "impls/common/warp_reduce.cuh"

namespace attn::attnres_mix {
namespace cached {

using attnres::kColumns;
using attnres::Rows;
using attnres::Team;

inline constexpr int kThreads = 512;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kTile = 4;  // rows whose loads are under way together

struct Scratch {
  float products[kWarps][2][attnres::kMaxSources];  // with the query; squares
  float weights[attnres::kMaxSources];              // logits first
  float norms[2 * kWarps];                          // of two tokens in turn
};

/// A token's rows. A thread reads and writes the same columns of all of them: what it has stored, it reads.
template <class T, Rows kRows>
struct TokenRows {
  const CachedArguments& p;
  std::int64_t token;

  __device__ void source(int n, int group, float (&x)[kColumns]) const {
    const bool updated = p.update.data && n == p.N - 1;
    const T* row = updated ? static_cast<const T*>(p.sum.data) + token * p.D
                           : static_cast<const T*>(p.v.data[n]) + token * p.v.stride;
    attnres::load_columns<T, kRows>(row, group, p.D, x);
  }
  __device__ void load(const attnres::RowsOf& rows, int group, float (&x)[kColumns]) const {
    attnres::load_columns_as<kRows>(rows.data, rows.dtype, token * p.D, group, p.D, x);
  }
  __device__ void store(const attnres::RowsOf& rows, int group, const float (&x)[kColumns]) const {
    attnres::store_columns_as<kRows>(rows.data, rows.dtype, token * p.D, group, p.D, x);
  }
  /// The last source with its update, where nothing has been stored yet: the sum may take its place.
  __device__ void add_update(int group) const {
    float x[kColumns];
    float added[kColumns];
    attnres::load_columns<T, kRows>(static_cast<const T*>(p.v.data[p.N - 1]) + token * p.v.stride,
                                    group, p.D, x);
    load(p.update, group, added);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) x[c] += added[c];
    store(p.sum, group, x);
  }
};

/// This warp's products of all rows with the query, and their squares.
template <class T, Rows kRows>
__device__ void warp_products(const TokenRows<T, kRows>& rows,
                              const Team& team,
                              float (&products)[2][attnres::kMaxSources]) {
  const CachedArguments& p = rows.p;
  for (int first = 0; first < p.N; first += kTile) {
    float sums[2 * kTile] = {};
    for (int group = team.thread; group < p.groups; group += team.threads()) {
      float w[kColumns];
      float x[kTile][kColumns];
#pragma unroll
      for (int i = 0; i < kTile; ++i) rows.source(min(first + i, p.N - 1), group, x[i]);
      attnres::load_columns_as<kRows>(p.wt.data, p.wt.dtype, 0, group, p.D, w);
#pragma unroll
      for (int i = 0; i < kTile; ++i) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          sums[i] += w[c] * x[i][c];
          sums[kTile + i] += x[i][c] * x[i][c];
        }
      }
    }
    attnres::store_warp_sums(sums, team.lane, products[0] + first, [](int i) {
      return i < kTile ? i : attnres::kMaxSources + i - kTile;
    });
  }
}

/// The softmax over the rows, by the whole CTA, from its warps' sums: scratch.weights. Returns the lse.
__device__ inline float cta_softmax(const CachedArguments& p, const Team& team, Scratch& scratch) {
  for (int n = team.thread; n < p.N; n += team.threads()) {
    float product = 0;
    float squares = 0;
    for (int warp = 0; warp < team.warps; ++warp) {
      product += scratch.products[warp][0][n];
      squares += scratch.products[warp][1][n];
    }
    scratch.weights[n] = product * (1.0f / sqrtf(squares / static_cast<float>(p.D) + p.eps));
  }
  __syncthreads();  // all threads: the logits are there
  float largest = -INFINITY;
  for (int n = team.lane; n < p.N; n += 32) largest = fmaxf(largest, scratch.weights[n]);
  largest = warp_reduce<32>(largest, Max{});
  float sum = 0;
  for (int n = team.lane; n < p.N; n += 32) sum += expf(scratch.weights[n] - largest);
  sum = warp_reduce<32>(sum, Sum{});
  __syncthreads();  // all threads: the logits have been read
  const float scale = 1.0f / sum;
  for (int n = team.thread; n < p.N; n += team.threads())
    scratch.weights[n] = expf(scratch.weights[n] - largest) * scale;
  __syncthreads();  // all threads: the weights are there
  return largest + logf(sum);
}

/// Stores the mixed row, as its norm's tensor holds it where there is no other. Returns the sum of this
/// thread's squares, rounded.
template <class T, Rows kRows>
__device__ float store_mix(const TokenRows<T, kRows>& rows,
                           const Team& team,
                           const float* weights) {
  const CachedArguments& p = rows.p;
  const attnres::RowsOf& to = p.out.data ? p.out : p.normed;
  float squares = 0;
  for (int group = team.thread; group < p.groups; group += team.threads()) {
    float mixed[kColumns] = {};
#pragma unroll 4
    for (int n = 0; n < p.N; ++n) {
      float x[kColumns];
      rows.source(n, group, x);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) mixed[c] += weights[n] * x[c];
    }
    rows.store(to, group, mixed);
    attnres::round_columns(to.dtype, mixed);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) squares += mixed[c] * mixed[c];
  }
  return squares;
}

/// Stores the norm of the row that store_mix has stored.
template <class T, Rows kRows>
__device__ void store_norm(const TokenRows<T, kRows>& rows, const Team& team, float squares) {
  const CachedArguments& p = rows.p;
  const float rho = 1.0f / sqrtf(squares / static_cast<float>(p.D) + p.norm_eps);
  for (int group = team.thread; group < p.groups; group += team.threads()) {
    float x[kColumns];
    float gamma[kColumns];
    rows.load(p.out.data ? p.out : p.normed, group, x);
    attnres::load_columns_as<kRows>(p.gamma.data, p.gamma.dtype, 0, group, p.D, gamma);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) x[c] *= rho * gamma[c];
    rows.store(p.normed, group, x);
  }
}

template <class T, Rows kRows>
__global__ void __launch_bounds__(kThreads, 1)
    cached_kernel(const __grid_constant__ CachedArguments p) {
  __shared__ Scratch scratch;
  const Team team = Team::of(static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x) / 32);
  int parity = 0;
  for (std::int64_t token = blockIdx.x; token < p.tokens; token += gridDim.x, parity ^= 1) {
    const TokenRows<T, kRows> rows{p, token};
    if (p.update.data) {
      for (int group = team.thread; group < p.groups; group += team.threads())
        rows.add_update(group);
    }
    warp_products(rows, team, scratch.products[team.warp]);
    __syncthreads();  // all warps: their sums are there; the last token's weights have been read
    const float lse = cta_softmax(p, team, scratch);
    if (p.lse && team.thread == 0) p.lse[token] = lse;
    if (p.weights) {
      for (int n = team.thread; n < p.N; n += team.threads())
        p.weights[token * p.N + n] = scratch.weights[n];
    }
    float squares[1] = {store_mix(rows, team, scratch.weights)};
    if (!p.normed.data) continue;
    attnres::cta_sums(team, scratch.norms, parity, squares);
    store_norm(rows, team, squares[0]);
  }
}

}  // namespace cached

/// The kernel for sources of a type.
inline CachedKernel cached_kernel_for(DType dtype, bool vectors) {
  CachedKernel kernel = nullptr;
  with_element_type(dtype, [&]<class T>(std::type_identity<T>) {
    kernel = vectors ? cached::cached_kernel<T, attnres::Rows::kDirect>
                     : cached::cached_kernel<T, attnres::Rows::kSingle>;
  });
  return kernel;
}

inline int cached_threads(std::int64_t groups) {
  return static_cast<int>(std::min<std::int64_t>(cached::kThreads, (groups + 31) / 32 * 32));
}

}  // namespace attn::attnres_mix
