// The kernel of fused_simt: a CTA has a token, its rows and its columns of the weights' gradients in
// registers.
#pragma once

#include "impls/attnres_merge_bwd/fused_simt.h"

namespace attn::attnres_merge_bwd {
namespace simt {

using attnres::HeldRow;
using attnres::kColumns;
using attnres::MergeWeights;
using attnres::Place;
using attnres::Rows;
using attnres::Team;

/// Sums of the warps, of two tokens in turn.
struct Scratch {
  static constexpr int kWarps = attnres::kMergeThreads / 32;

  float products[2 * 3 * kWarps];
  float norms[2 * 2 * kWarps];
  float normed_products[2 * kWarps];
};

/// The thread's columns of the query: held, or from the caches.
template <Rows kRows, int kGroups, bool kHeld>
class Query {
 public:
  __device__ Query(const Place& place, const attnres::RowsOf& wt) : wt_(wt) {
    if constexpr (kHeld) held_.load(place, wt, 0);
  }
  __device__ void columns(const Place& place, int i, float (&x)[kColumns]) const {
    if constexpr (kHeld) {
      held_.columns(i, x);
    } else {
      attnres::load_row_group<kRows>(place, wt_, 0, i, x);
    }
  }

 private:
  const attnres::RowsOf& wt_;
  HeldRow<float, Rows::kSingle, kGroups> held_;
};

/// The rows that a merge has read, and the gradient that comes in for its output.
template <class T, class U, Rows kRows, int kGroups>
struct TokenRows {
  HeldRow<T, kRows, kGroups> b;
  HeldRow<U, kRows, kGroups> read;
  HeldRow<U, kRows, kGroups> dout;

  /// The merged row as its tensor holds it.
  __device__ void merged(const SimtArguments& p,
                         const MergeWeights& weights,
                         int i,
                         float (&h)[kColumns]) const {
    float x[kColumns];
    b.columns(i, x);
    read.columns(i, h);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) h[c] = weights.other * h[c] + weights.a * x[c];
    attnres::round_columns(p.out_dtype, h);
  }
};

/// d = the gradient of the merged row: what comes in for it, and what comes through its norm. Adds the
/// token's share to dgamma.
template <class T, class U, Rows kRows, int kGroups>
__device__ void through_norm(const SimtArguments& p,
                             const Place& place,
                             const Team& team,
                             const TokenRows<T, U, kRows, kGroups>& rows,
                             const HeldRow<U, kRows, kGroups>& dnormed,
                             const MergeWeights& weights,
                             float* scratch,
                             int parity,
                             float (&dgamma)[kGroups][kColumns],
                             float (&d)[kGroups][kColumns]) {
  float sums[2] = {};  // <h, h>, <gamma dnormed, h>
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    float h[kColumns];
    float gamma[kColumns];
    rows.merged(p, weights, i, h);
    attnres::load_row_group<kRows>(place, p.gamma, 0, i, gamma);
    dnormed.columns(i, d[i]);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      sums[0] += h[c] * h[c];
      sums[1] += gamma[c] * d[i][c] * h[c];
    }
  }
  attnres::cta_sums(team, scratch, parity, sums);
  const auto D = static_cast<float>(place.D);
  const float rho = 1.0f / sqrtf(sums[0] / D + p.norm_eps);
  const float back = rho * rho * rho * sums[1] / D;
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    float h[kColumns];
    float gamma[kColumns];
    float given[kColumns];
    rows.merged(p, weights, i, h);
    attnres::load_row_group<kRows>(place, p.gamma, 0, i, gamma);
    rows.dout.columns(i, given);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      dgamma[i][c] += d[i][c] * (h[c] * rho);
      d[i][c] = given[c] + (rho * (gamma[c] * d[i][c]) - back * h[c]);
    }
  }
}

/// <d, b - read> over the CTA.
template <class T, class U, Rows kRows, int kGroups>
__device__ float product_with_sides(const Team& team,
                                    const TokenRows<T, U, kRows, kGroups>& rows,
                                    const float (&d)[kGroups][kColumns],
                                    float* scratch,
                                    int parity) {
  float sum[1] = {};
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    float x[kColumns];
    float mixed[kColumns];
    rows.b.columns(i, x);
    rows.read.columns(i, mixed);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sum[0] += d[i][c] * (x[c] - mixed[c]);
  }
  attnres::cta_sums(team, scratch, parity, sum);
  return sum[0];
}

/// What the logit of the partial sum gives back, and gets.
struct LogitGradient {
  float through;  // dl r
  float back;     // of an element of the sum, by its norm
};

__device__ inline LogitGradient logit_gradient(const SimtArguments& p,
                                               const MergeWeights& weights,
                                               float q,
                                               float dlse) {
  const float dl = q + weights.a * dlse;
  return {dl * weights.r, dl * weights.l * weights.r * weights.r / static_cast<float>(p.merge.D)};
}

template <int kGroups>
__device__ void store_shares(const SimtArguments& p,
                             const Place& place,
                             float* shares,
                             const float (&gradient)[kGroups][kColumns]) {
  float* share = shares + static_cast<std::int64_t>(blockIdx.x) * p.merge.groups * kColumns;
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    if (place.has(i)) attnres::store_split(share, p.merge.groups, place.group(i), gradient[i]);
  }
}

template <class T, class U, Rows kRows, int kGroups, bool kNorm>
__global__ void __launch_bounds__(attnres::kMergeThreads)
    merge_bwd_kernel(const __grid_constant__ SimtArguments p) {
  __shared__ Scratch scratch;
  const attnres::MergeArguments& m = p.merge;
  const auto thread = static_cast<int>(threadIdx.x);
  const auto threads = static_cast<int>(blockDim.x);
  const Team team = Team::of(thread, threads / 32);
  const Place place{thread, threads, m.groups, m.D};
  const Query<kRows, kGroups, !kNorm> w(place, m.wt);
  float dw[kGroups][kColumns] = {};
  float dgamma[kGroups][kColumns] = {};  // stays unused without a norm
  int parity = 0;
  for (std::int64_t token = blockIdx.x; token < m.tokens; token += gridDim.x, parity ^= 1) {
    TokenRows<T, U, kRows, kGroups> rows;
    HeldRow<U, kRows, kGroups> dnormed;
    HeldRow<T, kRows, kGroups> held;  // what dpartial is added to
    float sums[kNorm ? 2 : 3] = {};   // squares, the product with the query, <dout, b - read>
    rows.b.load(place, m.partial, token);
    rows.dout.load(place, p.dout, token, !kNorm || p.dout.data);
    if constexpr (kNorm) dnormed.load(place, p.dnormed, token);
    rows.read.load(place, m.read, token);
    held.load(place, p.dpartial, token, p.add);
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float x[kColumns];
      float query[kColumns];
      float mixed[kColumns];
      float d[kColumns];
      rows.b.columns(i, x);
      w.columns(place, i, query);
      rows.read.columns(i, mixed);
      rows.dout.columns(i, d);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        sums[0] += x[c] * x[c];
        sums[1] += query[c] * x[c];
        if constexpr (!kNorm) sums[2] += d[c] * (x[c] - mixed[c]);
      }
    }
    const float z = m.z[token];
    const float dlse = p.dlse ? p.dlse[token] : 0.0f;
    attnres::cta_sums(team, scratch.products, parity, sums);
    const MergeWeights weights = attnres::merge_weights(sums[0], sums[1], z, m.D, m.eps);
    float whole[kGroups][kColumns];  // gradient of the merged row, with what comes through its norm
    float product;
    if constexpr (kNorm) {
      through_norm(p, place, team, rows, dnormed, weights, scratch.norms, parity, dgamma, whole);
      product = product_with_sides(team, rows, whole, scratch.normed_products, parity);
    } else {
      product = sums[2];
    }
    const float q = weights.a * weights.other * product;
    if (thread == 0) p.dz[token] = weights.other * dlse - q;
    const LogitGradient logit = logit_gradient(p, weights, q, dlse);
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float x[kColumns];
      float query[kColumns];
      float d[kColumns];
      float dread[kColumns];
      float dpartial[kColumns];
      rows.b.columns(i, x);
      w.columns(place, i, query);
      if constexpr (!kNorm) rows.dout.columns(i, d);
      held.columns(i, dpartial);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        if constexpr (kNorm) d[c] = whole[i][c];
        dread[c] = weights.other * d[c];
        dw[i][c] += logit.through * x[c];
        dpartial[c] += weights.a * d[c] + (logit.through * query[c] - logit.back * x[c]);
      }
      attnres::store_row_group<U, kRows>(place, p.dread, token, i, dread);
      attnres::store_row_group<T, kRows>(place, p.dpartial, token, i, dpartial);
    }
  }
  store_shares(p, place, p.dwt, dw);
  if constexpr (kNorm) store_shares(p, place, p.dgamma, dgamma);
}

template <bool kNorm>
struct KernelOf {
  template <class T, class U, Rows kRows, int kGroups>
  struct Type {
    static SimtKernel value() { return merge_bwd_kernel<T, U, kRows, kGroups, kNorm>; }
  };
};

}  // namespace simt
}  // namespace attn::attnres_merge_bwd
