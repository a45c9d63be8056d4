// fused_simt's kernel with a norm for rows of any number, width, type and address: they come from the caches,
// several times. What a thread has of the gradients of weights and of the mixed row lies in the CTA's own
// rows in global memory: it reads there what it has written itself.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "impls/attnres/columns.cuh"
#include "impls/attnres/merge_kernel.cuh"
#include "impls/attnres/team.cuh"
#include "impls/attnres_mix_bwd/simt_arguments.h"
#include "impls/common/warp_reduce.cuh"

namespace attn::attnres_mix_bwd {
namespace {

using attnres::kColumns;
using attnres::kMaxSources;
using attnres::Rows;
using attnres::Team;

constexpr int kWarps = attnres::kHeldThreads / 32;
constexpr int kTile = 4;  // rows whose loads are under way together

struct Scratch {
  float products[kWarps][3][kMaxSources];  // with the query; squares; with the mixed row's gradient
  float weights[kMaxSources];
  float logits[kMaxSources];
  float r[kMaxSources];          // reciprocal RMS
  float gradients[kMaxSources];  // of the logits
  float norms[2 * 2 * kWarps];   // of two tokens in turn
};

/// A token's rows, and the CTA's.
template <Rows kRows>
struct TokenRows {
  const SimtArguments& p;
  std::int64_t token;
  float* dwt;     // [2, groups, 4]
  float* dgamma;  // the same
  float* row;     // the same: the mixed row, then its gradient

  __device__ void source(int n, int group, float (&x)[kColumns]) const {
    attnres::load_columns_as<kRows>(p.v.data[n], p.v.dtype, token * p.v.stride, group, p.D, x);
  }
  __device__ void dense(const attnres::RowsOf& rows,
                        std::int64_t at,
                        int group,
                        float (&x)[kColumns]) const {
    attnres::load_columns_as<kRows>(rows.data, rows.dtype, at * p.D, group, p.D, x);
  }
  /// Stores the gradient of source n, added to what is there or in its place.
  __device__ void store(int n, int group, float (&x)[kColumns]) const {
    const std::int64_t first = token * p.dv.stride;
    if (p.add[n]) {
      float held[kColumns];
      attnres::load_columns_as<kRows>(p.dv.data[n], p.dv.dtype, first, group, p.D, held);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) x[c] += held[c];
    }
    attnres::store_columns_as<kRows>(p.dv.data[n], p.dv.dtype, first, group, p.D, x);
  }
};

/// This warp's products of all rows with the query and their squares, or with the mixed row's gradient.
template <bool kGradient, Rows kRows>
__device__ void warp_products(const TokenRows<kRows>& rows,
                              const Team& team,
                              float (&products)[3][kMaxSources]) {
  const SimtArguments& p = rows.p;
  for (int first = 0; first < p.N; first += kTile) {
    float sums[2 * kTile] = {};
    for (int group = team.thread; group < p.groups; group += team.threads()) {
      float with[kColumns];
      if constexpr (kGradient) {
        attnres::load_split(rows.row, p.groups, group, with);
      } else {
        rows.dense(p.wt, 0, group, with);
      }
#pragma unroll
      for (int i = 0; i < kTile; ++i) {
        float x[kColumns];
        rows.source(min(first + i, p.N - 1), group, x);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          sums[i] += with[c] * x[c];
          sums[kTile + i] += x[c] * x[c];
        }
      }
    }
    float* to = products[kGradient ? 2 : 0] + first;
    attnres::give_warp_sums(sums, team.lane, [&](int i, float sum) {
      if (i < kTile) to[i] = sum;
      if (!kGradient && i >= kTile) to[kMaxSources + i - kTile] = sum;
    });
  }
}

__device__ inline float warps_total(const Scratch& scratch, const Team& team, int which, int n) {
  float sum = 0;
  for (int warp = 0; warp < team.warps; ++warp) sum += scratch.products[warp][which][n];
  return sum;
}

/// Logits and weights, by the whole CTA.
__device__ inline void find_weights(const SimtArguments& p, const Team& team, Scratch& scratch) {
  for (int n = team.thread; n < p.N; n += team.threads()) {
    const float squares = warps_total(scratch, team, 1, n);
    scratch.r[n] = 1.0f / sqrtf(squares / static_cast<float>(p.D) + p.eps);
    scratch.logits[n] = warps_total(scratch, team, 0, n) * scratch.r[n];
  }
  __syncthreads();  // all threads: the logits are there
  float largest = -INFINITY;
  for (int n = team.lane; n < p.N; n += 32) largest = fmaxf(largest, scratch.logits[n]);
  largest = warp_reduce<32>(largest, Max{});
  float sum = 0;
  for (int n = team.lane; n < p.N; n += 32) sum += expf(scratch.logits[n] - largest);
  const float scale = 1.0f / warp_reduce<32>(sum, Sum{});
  for (int n = team.thread; n < p.N; n += team.threads())
    scratch.weights[n] = expf(scratch.logits[n] - largest) * scale;
  __syncthreads();  // all threads: the weights are there
}

/// The gradient of the mixed row in the CTA's row, with what comes through its norm; the share of dgamma.
template <Rows kRows>
__device__ void through_norm(const TokenRows<kRows>& rows,
                             const Team& team,
                             Scratch& scratch,
                             int parity) {
  const SimtArguments& p = rows.p;
  float sums[2] = {};  // <h, h>, <gamma dnormed, h>
  for (int group = team.thread; group < p.groups; group += team.threads()) {
    float h[kColumns] = {};
    float gamma[kColumns];
    float dnormed[kColumns];
    for (int n = 0; n < p.N; ++n) {
      float x[kColumns];
      rows.source(n, group, x);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) h[c] += scratch.weights[n] * x[c];
    }
    attnres::round_columns(p.out_dtype, h);
    attnres::store_split(rows.row, p.groups, group, h);
    rows.dense(p.gamma, 0, group, gamma);
    rows.dense(p.dnormed, rows.token, group, dnormed);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      sums[0] += h[c] * h[c];
      sums[1] += gamma[c] * dnormed[c] * h[c];
    }
  }
  attnres::cta_sums(team, scratch.norms, parity, sums);
  const auto D = static_cast<float>(p.D);
  const float rho = 1.0f / sqrtf(sums[0] / D + p.norm_eps);
  const float back = rho * rho * rho * sums[1] / D;
  for (int group = team.thread; group < p.groups; group += team.threads()) {
    float d[kColumns] = {};
    float h[kColumns];
    float gamma[kColumns];
    float dnormed[kColumns];
    float dgamma[kColumns];
    if (p.dout.data) rows.dense(p.dout, rows.token, group, d);
    attnres::load_split(rows.row, p.groups, group, h);
    attnres::load_split(rows.dgamma, p.groups, group, dgamma);
    rows.dense(p.gamma, 0, group, gamma);
    rows.dense(p.dnormed, rows.token, group, dnormed);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      dgamma[c] += dnormed[c] * (h[c] * rho);
      d[c] += rho * (gamma[c] * dnormed[c]) - back * h[c];
    }
    attnres::store_split(rows.row, p.groups, group, d);
    attnres::store_split(rows.dgamma, p.groups, group, dgamma);
  }
}

/// The gradients of the logits, by the whole CTA.
__device__ inline void find_gradients(const SimtArguments& p,
                                      const Team& team,
                                      float dlse,
                                      Scratch& scratch) {
  float mean = 0;
  for (int n = team.lane; n < p.N; n += 32)
    mean += scratch.weights[n] * warps_total(scratch, team, 2, n);
  mean = warp_reduce<32>(mean, Sum{});
  for (int n = team.thread; n < p.N; n += team.threads()) {
    // Of one source the output is the source: no rounding may leave its logit a gradient.
    const float centred = p.N == 1 ? 0.0f : warps_total(scratch, team, 2, n) - mean;
    scratch.gradients[n] = scratch.weights[n] * (centred + dlse);
  }
  __syncthreads();  // all threads: the gradients of the logits are there
}

/// Stores the gradients of the rows, and adds the token's share of the query's.
template <Rows kRows>
__device__ void store_gradients(const TokenRows<kRows>& rows,
                                const Team& team,
                                const Scratch& scratch) {
  const SimtArguments& p = rows.p;
  for (int group = team.thread; group < p.groups; group += team.threads()) {
    float d[kColumns];
    float w[kColumns];
    float dw[kColumns];
    attnres::load_split(rows.row, p.groups, group, d);
    attnres::load_split(rows.dwt, p.groups, group, dw);
    rows.dense(p.wt, 0, group, w);
    for (int n = 0; n < p.N; ++n) {
      const float through = scratch.gradients[n] * scratch.r[n];
      const float back = through * scratch.logits[n] * scratch.r[n] / static_cast<float>(p.D);
      float x[kColumns];
      float dv[kColumns];
      rows.source(n, group, x);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        dv[c] = scratch.weights[n] * d[c] + (through * w[c] - back * x[c]);
        dw[c] += through * x[c];
      }
      rows.store(n, group, dv);
    }
    attnres::store_split(rows.dwt, p.groups, group, dw);
  }
}

template <Rows kRows>
__global__ void __launch_bounds__(attnres::kHeldThreads, 1)
    cached_bwd_kernel(const __grid_constant__ SimtArguments p) {
  __shared__ Scratch scratch;
  const Team team = Team::of(static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x) / 32);
  const std::int64_t share = static_cast<std::int64_t>(blockIdx.x) * p.groups * kColumns;
  TokenRows<kRows> rows{p, blockIdx.x, p.dwt + share, p.dgamma + share, p.rows + share};
  for (int group = team.thread; group < p.groups; group += team.threads()) {
    const float zeros[kColumns] = {};
    attnres::store_split(rows.dwt, p.groups, group, zeros);
    attnres::store_split(rows.dgamma, p.groups, group, zeros);
  }
  int parity = 0;
  for (; rows.token < p.tokens; rows.token += gridDim.x, parity ^= 1) {
    warp_products<false>(rows, team, scratch.products[team.warp]);
    __syncthreads();  // all warps: their sums are there; the last token's scalars have been read
    find_weights(p, team, scratch);
    through_norm(rows, team, scratch, parity);
    warp_products<true>(rows, team, scratch.products[team.warp]);
    __syncthreads();  // all warps: their products with the gradient are there
    find_gradients(p, team, p.dlse ? p.dlse[rows.token] : 0.0f, scratch);
    store_gradients(rows, team, scratch);
  }
}

}  // namespace

SimtKernel cached_norm_kernel(bool vectors) {
  return vectors ? cached_bwd_kernel<Rows::kDirect> : cached_bwd_kernel<Rows::kSingle>;
}

}  // namespace attn::attnres_mix_bwd
