// The mix of a token whose rows its threads hold in registers, eight columns of each a thread; in one CTA
// or in several that tell each other their sums.
//
// Row 0 is the last source, so that the row that an update changes has a fixed place; rows 1, 2, ... are
// sources 0, 1, ....
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

/// What the warps of a token tell each other: products of even and of odd rounds, squares for the norm. A
/// round is a token. A warp that is a round ahead writes the other products, and none can be two ahead; the
/// squares of a round come behind its products, so that one place is enough for them.
enum class Channel : int { kEven, kOdd, kNorm };
inline constexpr int kChannels = 3;

__device__ inline Channel products_of(int round) {
  return round % 2 == 0 ? Channel::kEven : Channel::kOdd;
}

/// The CTAs of a token, where it is one.
class OneCta {
 public:
  static constexpr int kWarps = attnres::kHeldThreads / 32;  // of all CTAs of a token, at most
  struct Shared {};

  __device__ explicit OneCta(Shared&) {}
  __device__ int rank() const { return 0; }
  __device__ int ranks() const { return 1; }
  /// The other CTAs have started.
  __device__ void await_start() {}
  /// So many floats will be put into this CTA; all threads call it.
  __device__ void expect(Channel, int) const {}
  /// Writes to this place in the shared memory of every CTA of the token.
  __device__ void put(Channel, float* to, float value) const { *to = value; }
  /// All that is expected has been put by all warps of the token, and is visible. The channel has been
  /// awaited `uses` times before.
  __device__ void await(Channel, int) const { __syncthreads(); }
};

template <int kRows, int kWarps>
struct HeldScratch {
  float products[2][kWarps][2 * kRows];  // with the query; squares
  float norms[kWarps];
};

/// Where a thread stands among those of its token.
struct HeldPlace {
  int lane;
  int warp, warps;  // of all CTAs of the token
  int group;        // its columns
  bool exists;      // whether the row has them
};

__device__ inline int source_of(int row, int N) { return row == 0 ? N - 1 : row - 1; }

/// A token's rows, and its update: zeros where there is none, and behind the last token.
template <class T, int kRows>
struct TokenRows {
  HeldGroup<T> v[kRows];
  HeldGroup<T> update;

  __device__ void load(const MixArguments& p, const HeldPlace& place, std::int64_t token) {
    const bool exists = place.exists && token < p.tokens;
    update.load(static_cast<const T*>(p.update.data) + token * p.D, place.group,
                exists && p.update.data);
#pragma unroll
    for (int row = 0; row < kRows; ++row)
      v[row].load(static_cast<const T*>(p.v.data[source_of(row, p.N)]) + token * p.v.stride,
                  place.group, exists && row < p.N);
  }
};

/// Adds the update and rounds; stores the sum. Without an update this adds zeros: behind a branch, its load
/// would wait for the others.
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
  if (place.exists && p.update.data)
    attnres::store_group(static_cast<T*>(p.sum.data) + token * p.D, place.group, x);
}

/// This warp's products of the query with rows from kFirst on, and their squares, to to[row] and
/// to[kRows + row] of every CTA of the token.
template <int kFirst, class T, int kRows, class Ctas>
__device__ inline void put_products(const Ctas& ctas,
                                    Channel channel,
                                    const float (&w)[kColumns],
                                    const HeldGroup<T> (&v)[kRows],
                                    int lane,
                                    float* to) {
  if constexpr (kFirst < kRows) {
    constexpr int kCount =
        std::min(8, kRows - kFirst);  // of more, the sums would take the registers
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
    attnres::give_warp_sums(sums, lane, [&](int i, float sum) {
      ctas.put(channel, to + kFirst + (i < kCount ? i : kRows - kCount + i), sum);
    });
    put_products<kFirst + kCount>(ctas, channel, w, v, lane, to);
  }
}

/// Stores the norm of the mixed row.
template <class Ctas, int kWarps>
__device__ inline void store_norm(const MixArguments& p,
                                  const Ctas& ctas,
                                  const HeldPlace& place,
                                  std::int64_t token,
                                  int round,
                                  const float (&gamma)[kColumns],
                                  float (&norms)[kWarps],
                                  float (&mixed)[kColumns]) {
  attnres::round_columns(p.normed.dtype, mixed);
  float squares[1] = {};
#pragma unroll
  for (int c = 0; c < kColumns; ++c) squares[0] += mixed[c] * mixed[c];
  ctas.expect(Channel::kNorm, place.warps);
  attnres::give_warp_sums(squares, place.lane, [&](int, float sum) {
    ctas.put(Channel::kNorm, &norms[place.warp], sum);
  });
  ctas.await(Channel::kNorm, round);
  float total = 0;
#pragma unroll 4
  for (int warp = 0; warp < place.warps; ++warp) total += norms[warp];
  const float rho = 1.0f / sqrtf(total / static_cast<float>(p.D) + p.norm_eps);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) mixed[c] *= rho * gamma[c];
  if (place.exists)
    attnres::store_columns_as<Rows::kDirect>(p.normed.data, p.normed.dtype, token * p.D,
                                             place.group, p.D, mixed);
}

template <class T, int kRows, class Ctas>
__global__ void __launch_bounds__(attnres::kHeldThreads)
    held_kernel(const __grid_constant__ MixArguments p) {
  __shared__ HeldScratch<kRows, Ctas::kWarps> scratch;
  __shared__ typename Ctas::Shared shared;
  Ctas ctas(shared);
  const auto thread = static_cast<int>(threadIdx.x);
  const auto threads = static_cast<int>(blockDim.x);
  const int group = ctas.rank() * threads + thread;
  const HeldPlace place{thread % 32, group / 32, ctas.ranks() * threads / 32, group,
                        group < p.groups};
  const int step = static_cast<int>(gridDim.x) / ctas.ranks();
  std::int64_t token = static_cast<int>(blockIdx.x) / ctas.ranks();
  // The next token's rows are on their way while this one is stored, where there are registers for it.
  constexpr bool kAhead = kRows <= 9;
  TokenRows<T, kRows> rows;
  if constexpr (kAhead) rows.load(p, place, token);
  float w[kColumns];
  float gamma[kColumns];
  attnres::load_weights(p.wt, p.gamma, group, place.exists, w, gamma);
  ctas.await_start();
  for (int round = 0; token < p.tokens; token += step, ++round) {
    if constexpr (!kAhead) rows.load(p, place, token);
    add_update(p, place, token, rows.update, rows.v[0]);
    const Channel channel = products_of(round);
    auto& products = scratch.products[round % 2];
    ctas.expect(channel, 2 * kRows * place.warps);
    put_products<0>(ctas, channel, w, rows.v, place.lane, products[place.warp]);
    ctas.await(channel, round / 2);
    const attnres::LaneWeights weights = attnres::lane_softmax<kRows>(
        attnres::lane_total(products, place.warps, place.lane), p.N, p.D, p.eps, place.lane);
    if (place.warp == 0) {
      if (p.lse && place.lane == 0) p.lse[token] = weights.lse;
      if (p.weights && place.lane < p.N)
        p.weights[token * p.N + source_of(place.lane, p.N)] = weights.weight;
    }
    float mixed[kColumns];
    attnres::forget_columns(rows.v);
    attnres::mix_rows(rows.v, weights.weight, mixed);
    if constexpr (kAhead) rows.load(p, place, token + step);
    if (p.out.data && place.exists)
      attnres::store_columns_as<Rows::kDirect>(p.out.data, p.out.dtype, token * p.D, group, p.D,
                                               mixed);
    if (p.normed.data) store_norm(p, ctas, place, token, round, gamma, scratch.norms, mixed);
  }
}

/// The kernel that holds so many rows, of those that held_sources may ask for.
template <class Ctas>
MixKernel held_kernel_for(DType dtype, int sources) {
  MixKernel kernel = nullptr;
  with_element_type(dtype, [&]<class T>(std::type_identity<T>) {
    dispatch<2, 3, 5, 9, 16>(sources, [&](auto rows) {
      if constexpr (sizeof(T) == 2 || rows() <= 9) kernel = held_kernel<T, rows(), Ctas>;
    });
  });
  return kernel;
}

}  // namespace attn::attnres_mix
