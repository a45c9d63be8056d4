// The mix of a token whose rows its threads hold in registers, eight columns of each a thread; in one CTA
// or in several that tell each other their sums.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

#include "harness/core/dispatch.h"
#include "impls/attnres/held_rows.cuh"
#include "impls/attnres/mix_layout.h"
#include "impls/attnres/team.cuh"
#include "impls/attnres_mix/mix_arguments.h"

namespace attn::attnres_mix {

using attnres::HeldGroup;
using attnres::kColumns;
using attnres::Rows;

/// Where a thread stands.
struct HeldPlace {
  int lane;
  int warp, warps;  // of the CTA
  int group;        // its columns
  bool exists;      // whether the row has them
};

inline constexpr int kHeldWarps = attnres::kHeldThreads / 32;  // of a CTA, at most

/// The CTAs of a token, where it is one.
class OneCta {
 public:
  /// In shared memory: kCount values of every warp of the token, to be added up. They may be written again
  /// once all warps of the CTA have come to a barrier behind `total`.
  template <int kCount>
  struct Sums {
    float of_warp[kHeldWarps][kCount];
  };

  __device__ int rank() const { return 0; }
  __device__ std::int64_t first_token() const { return blockIdx.x; }
  /// From a token to the next one of these CTAs.
  __device__ std::int64_t step() const { return gridDim.x; }
  /// All threads call both, with all sums that there are; behind the second the other CTAs have started.
  template <class... AllSums>
  __device__ void start(AllSums&...) const {}
  __device__ void await_start() const {}
  /// All threads call it before any calls `total`.
  template <int kCount>
  __device__ void expect(Sums<kCount>&) const {}
  /// In lane i value i summed over the warps, in lanes behind the last value that one. All warps of the token
  /// call it, having written their values; it has been called `uses` times with these sums before.
  template <int kCount>
  __device__ float total(const Sums<kCount>& sums, const HeldPlace& place, int /*uses*/) const {
    __syncthreads();  // all warps: their values are there
    return attnres::lane_total(sums.of_warp, place.warps, place.lane);
  }
};

/// Products with the query and squares, of even and of odd rounds; squares for the norm. A round is a token. A
/// warp that is a round ahead writes the other products, and none can be two ahead; the norm of a round comes
/// behind its products, so that one place is enough for it.
template <int kRows, class Ctas>
struct HeldScratch {
  typename Ctas::template Sums<2 * kRows> products[2];
  typename Ctas::template Sums<1> norm;
};

/// A token's rows, and its update: zeros where there is none, and behind the last token.
template <class T, int kRows>
struct TokenRows {
  HeldGroup<T> v[kRows];
  HeldGroup<T> update;

  __device__ void load(const HeldArguments& p, const HeldPlace& place, std::int64_t token) {
    const bool exists = place.exists && token < p.tokens;
#pragma unroll
    for (int row = 0; row < kRows; ++row)
      v[row].load(static_cast<const T*>(p.rows[row]) + token * p.stride, place.group,
                  exists && row < p.N);
    update.load(static_cast<const T*>(p.update.data) + token * p.D, place.group,
                exists && p.update.data);
  }
};

/// Adds the update and rounds; stores the sum.
template <class T>
__device__ inline void add_update(const MixArguments& p,
                                  const HeldPlace& place,
                                  std::int64_t token,
                                  const HeldGroup<T>& update,
                                  HeldGroup<T>& last) {
  float x[kColumns];
  float added[kColumns];
  last.columns(x);
  update.columns(added);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) x[c] += added[c];
  last.set_columns(x);
  if (place.exists) attnres::store_group(static_cast<T*>(p.sum.data) + token * p.D, place.group, x);
}

/// This warp's products of the query with rows from kFirst on, and their squares, to to[row] and
/// to[kRows + row].
template <int kFirst, class T, int kRows>
__device__ inline void store_products(const float (&w)[kColumns],
                                      const HeldGroup<T> (&v)[kRows],
                                      int lane,
                                      float (&to)[2 * kRows]) {
  if constexpr (kFirst < kRows) {
    constexpr int kCount = kRows <= 9 ? kRows : 8;  // of more, the sums would take the registers
    float sums[2 * kCount] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      float x[kColumns];
      v[kFirst + i].columns(x);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        sums[i] += w[c] * x[c];
        sums[kCount + i] += x[c] * x[c];
      }
    }
    attnres::store_warp_sums(sums, lane, to + kFirst,
                             [](int i) { return i < kCount ? i : kRows - kCount + i; });
    store_products<kFirst + kCount>(w, v, lane, to);
  }
}

/// Stores the lse and the weights, where they are asked for.
__device__ inline void store_scalars(const MixArguments& p,
                                     const HeldPlace& place,
                                     std::int64_t token,
                                     const attnres::LaneWeights& weights) {
  if (place.group >= 32) return;  // one warp of the token
  if (p.lse && place.lane == 0) p.lse[token] = weights.lse();
  if (p.weights && place.lane < p.N)
    p.weights[token * p.N + source_of(place.lane, p.N)] = weights.weight();
}

/// Stores the norm of the mixed row.
template <class Ctas, class Sums>
__device__ inline void store_norm(const MixArguments& p,
                                  const Ctas& ctas,
                                  const HeldPlace& place,
                                  std::int64_t token,
                                  int round,
                                  const float (&gamma)[kColumns],
                                  Sums& norm,
                                  float (&mixed)[kColumns]) {
  attnres::round_columns(p.normed.dtype, mixed);
  float squares[1] = {};
#pragma unroll
  for (int c = 0; c < kColumns; ++c) squares[0] += mixed[c] * mixed[c];
  ctas.expect(norm);
  attnres::store_warp_sums(squares, place.lane, norm.of_warp[place.warp], [](int i) { return i; });
  const float total = ctas.total(norm, place, round);
  const float rho = 1.0f / sqrtf(total / static_cast<float>(p.D) + p.norm_eps);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) mixed[c] *= rho * gamma[c];
  if (place.exists)
    attnres::store_columns_as<Rows::kDirect>(p.normed.data, p.normed.dtype, token * p.D,
                                             place.group, p.D, mixed);
}

/// kOnce: no CTA has a second token; nothing is found out or loaded for one, and code that is not there need
/// not come from memory.
template <class T, int kRows, class Ctas, bool kOnce>
__global__ void __launch_bounds__(attnres::kHeldThreads)
    held_kernel(const __grid_constant__ HeldArguments p) {
  __shared__ HeldScratch<kRows, Ctas> scratch;
  Ctas ctas;
  const int group = ctas.rank() * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
  using attnres::computed_here;
  const HeldPlace place{static_cast<int>(threadIdx.x % 32),
                        computed_here(static_cast<int>(threadIdx.x / 32)),
                        computed_here(static_cast<int>(blockDim.x / 32)), group, group < p.groups};
  std::int64_t token = ctas.first_token();
  // All loads first. The next token's rows are on their way while this one is stored, where there are
  // registers for it.
  constexpr bool kAhead = kOnce || kRows <= 9;
  TokenRows<T, kRows> rows;
  if constexpr (kAhead) rows.load(p, place, token);
  attnres::HeldAnyGroup query;
  query.load(p.wt.data, p.wt.dtype, group, place.exists);
  ctas.start(scratch.products[0], scratch.products[1], scratch.norm);
  float gamma[kColumns] = {};
  if (p.gamma.data) {
    attnres::HeldAnyGroup weight;
    weight.load(p.gamma.data, p.wt.dtype, group, place.exists);
    weight.columns(p.wt.dtype, gamma);
  }
  const float inverse_width = 1.0f / static_cast<float>(p.D);
  float w[kColumns];
  query.columns(p.wt.dtype, w);
  ctas.await_start();
  for (int round = 0; token < p.tokens; token += ctas.step(), ++round) {
    if constexpr (!kAhead) rows.load(p, place, token);
    auto& products = scratch.products[round % 2];
    ctas.expect(products);
    if (p.update.data) add_update(p, place, token, rows.update, rows.v[0]);
    store_products<0>(w, rows.v, place.lane, products.of_warp[place.warp]);
    const float total = ctas.total(products, place, round / 2);
    const attnres::LaneWeights weights =
        attnres::lane_softmax<kRows>(total, p.N, inverse_width, p.eps, place.lane);
    if constexpr (!kOnce) store_scalars(p, place, token, weights);  // early: fewer registers
    float mixed[kColumns];
    attnres::forget_columns(rows.v);
    attnres::mix_rows(rows.v, weights.e, mixed);  // while the lanes' exponentials are added up
    const float scale = 1.0f / weights.sum;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) mixed[c] *= scale;
    if constexpr (kAhead && !kOnce) rows.load(p, place, token + ctas.step());
    if (p.out.data && place.exists)
      attnres::store_columns_as<Rows::kDirect>(p.out.data, p.out.dtype, token * p.D, group, p.D,
                                               mixed);
    if constexpr (kOnce)
      store_scalars(p, place, token, weights);  // late: rows are not kept waiting
    if (p.normed.data) store_norm(p, ctas, place, token, round, gamma, scratch.norm, mixed);
    if constexpr (kOnce) return;
  }
}

/// The kernel that holds so many rows, of those that held_sources may ask for.
template <class Ctas, bool kOnce>
HeldKernel held_kernel_for(DType dtype, int sources) {
  HeldKernel kernel = nullptr;
  with_element_type(dtype, [&]<class T>(std::type_identity<T>) {
    dispatch<2, 3, 5, 9, 16>(sources, [&](auto rows) {
      if constexpr (sizeof(T) == 2 || rows() <= 9) kernel = held_kernel<T, rows(), Ctas, kOnce>;
    });
  });
  return kernel;
}

}  // namespace attn::attnres_mix
