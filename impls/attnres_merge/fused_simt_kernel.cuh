// The kernel of fused_simt: a CTA has a token, its rows in registers.
#pragma once

#include "impls/attnres_merge/fused_simt.h"

namespace attn::attnres_merge {
namespace simt {

using attnres::HeldRow;
using attnres::kColumns;
using attnres::Rows;

/// Adds the update, rounds and stores the sum.
template <class T, Rows kRows, int kGroups>
__device__ void add_update(const SimtArguments& p,
                           const attnres::Place& place,
                           std::int64_t token,
                           const HeldRow<T, kRows, kGroups>& update,
                           HeldRow<T, kRows, kGroups>& b) {
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    float sum[kColumns];
    float added[kColumns];
    b.columns(i, sum);
    update.columns(i, added);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sum[c] += added[c];
    if constexpr (kRows == Rows::kSingle) attnres::round_columns(p.merge.partial.dtype, sum);
    b.set_columns(i, sum);
    attnres::store_row_group<T, kRows>(place, p.sum, token, i, sum);
  }
}

/// Stores the norm of the merged row, which is `merged`, from its sum of squares.
template <class U, Rows kRows, int kGroups>
__device__ void store_norm(const SimtArguments& p,
                           const attnres::Place& place,
                           std::int64_t token,
                           float squares,
                           const HeldRow<U, kRows, kGroups>& merged) {
  const float rho = 1.0f / sqrtf(squares / static_cast<float>(place.D) + p.norm_eps);
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    float x[kColumns];
    float gamma[kColumns];
    merged.columns(i, x);
    attnres::load_row_group<kRows>(place, p.gamma, 0, i, gamma);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) x[c] *= rho * gamma[c];
    attnres::store_row_group<U, kRows>(place, p.normed, token, i, x);
  }
}

template <class T, class U, Rows kRows, int kGroups, bool kNorm>
__global__ void __launch_bounds__(attnres::kMergeThreads)
    merge_kernel(const __grid_constant__ SimtArguments p) {
  constexpr int kWarps = attnres::kMergeThreads / 32;
  __shared__ float scratch[2 * 2 * kWarps];
  __shared__ float norms[2 * kWarps];
  const attnres::MergeArguments& m = p.merge;
  const auto thread = static_cast<int>(threadIdx.x);
  const auto threads = static_cast<int>(blockDim.x);
  const attnres::Team team = attnres::Team::of(thread, threads / 32);
  const attnres::Place place{thread, threads, m.groups, m.D};
  HeldRow<float, Rows::kSingle, kGroups> w;
  w.load(place, m.wt, 0);
  int parity = 0;
  for (std::int64_t token = blockIdx.x; token < m.tokens; token += gridDim.x, parity ^= 1) {
    HeldRow<T, kRows, kGroups> b;
    HeldRow<U, kRows, kGroups> read;
    b.load(place, m.partial, token);
    read.load(place, m.read, token);
    const float z = m.z[token];
    if (p.update.data) {
      HeldRow<T, kRows, kGroups> update;
      update.load(place, p.update, token);
      add_update(p, place, token, update, b);
    }
    float sums[2] = {};  // squares, the product with the query
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float x[kColumns];
      float query[kColumns];
      b.columns(i, x);
      w.columns(i, query);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        sums[0] += x[c] * x[c];
        sums[1] += query[c] * x[c];
      }
    }
    attnres::cta_sums(team, scratch, parity, sums);
    const auto weights = attnres::merge_weights(sums[0], sums[1], z, m.D, m.eps);
    float squares[1] = {};
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float x[kColumns];
      float merged[kColumns];
      b.columns(i, x);
      read.columns(i, merged);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) merged[c] = weights.other * merged[c] + weights.a * x[c];
      if constexpr (kNorm) {  // of the row as its tensor holds it
        if constexpr (kRows == Rows::kSingle) attnres::round_columns(p.normed.dtype, merged);
        read.set_columns(i, merged);
        read.columns(i, merged);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) squares[0] += merged[c] * merged[c];
      }
      if (!kNorm || p.out.data) attnres::store_row_group<U, kRows>(place, p.out, token, i, merged);
    }
    if (p.lse && thread == 0) p.lse[token] = attnres::two_lse(z, weights.l);
    if constexpr (kNorm) {
      attnres::cta_sums(team, norms, parity, squares);
      store_norm(p, place, token, squares[0], read);
    }
  }
}

template <bool kNorm>
struct KernelOf {
  template <class T, class U, Rows kRows, int kGroups>
  struct Type {
    static SimtKernel value() { return merge_kernel<T, U, kRows, kGroups, kNorm>; }
  };
};

}  // namespace simt
}  // namespace attn::attnres_merge
