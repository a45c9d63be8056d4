// fused_simt's kernels that hold a token's rows in registers, eight columns of each a thread.
#include <cuda_runtime.h>

#include <cstdint>

#include "harness/core/dispatch.h"
#include "impls/attnres/held_rows.cuh"
#include "impls/attnres_mix_bwd/simt_arguments.h"

namespace attn::attnres_mix_bwd {
namespace {

using attnres::HeldGroup;
using attnres::kColumns;

constexpr int kWarps = attnres::kHeldThreads / 32;

/// Sums of the warps. Tokens use both halves of the products in turn, so that one barrier is enough: a warp
/// that is a token ahead writes the other half. What a norm adds is written and read between two barriers.
template <int kRows, bool kNorm>
struct Scratch {
  static constexpr int kProducts = kNorm ? 2 : 3;  // with the query, squares, with dout

  float products[2][kWarps][kProducts * kRows];
  float norms[kWarps][2];                // <h, h>, <gamma dnormed, h>
  float normed_products[kWarps][kRows];  // with the gradient of the mixed row
};

/// Where a thread stands in its CTA.
struct Place {
  int lane, warp, warps;
  int group;    // its columns
  bool exists;  // whether the row has them
};

/// A token's rows, what comes in for the mix and its norm, and what gradients are added to: early, where
/// there are registers for it.
template <class T, int kRows, bool kEarly>
struct TokenRows {
  HeldGroup<T> v[kRows];
  HeldGroup<T> held[kEarly ? kRows : 1];
  HeldGroup<T> dout, dnormed;

  __device__ void load(const SimtArguments& p, const Place& place, std::int64_t token) {
    const std::int64_t first = token * p.D;
#pragma unroll
    for (int row = 0; row < kRows; ++row)
      v[row].load(static_cast<const T*>(p.v.data[row]) + token * p.v.stride, place.group,
                  place.exists && row < p.N);
    dout.load(static_cast<const T*>(p.dout.data) + first, place.group, place.exists && p.dout.data);
    dnormed.load(static_cast<const T*>(p.dnormed.data) + first, place.group,
                 place.exists && p.dnormed.data);
    if constexpr (kEarly) {
#pragma unroll
      for (int row = 0; row < kRows; ++row) load_held(p, place, token, row, held[row]);
    }
  }
  /// What the gradient of the row is added to.
  __device__ const HeldGroup<T>& held_row(const SimtArguments& p,
                                          const Place& place,
                                          std::int64_t token,
                                          int row) {
    if constexpr (kEarly) return held[row];
    load_held(p, place, token, row, held[0]);
    return held[0];
  }

 private:
  __device__ static void load_held(
      const SimtArguments& p, const Place& place, std::int64_t token, int row, HeldGroup<T>& to) {
    to.load(static_cast<const T*>(p.dv.data[row]) + token * p.dv.stride, place.group,
            place.exists && row < p.N && p.add[row]);
  }
};

/// This warp's sums for rows from kFirst on: products with w, squares and, of three, products with d, to
/// to[row], to[kRows + row] and to[2 kRows + row].
template <int kProducts, int kFirst, class T, int kRows>
__device__ void store_products(const float (&w)[kColumns],
                               const float (&d)[kColumns],
                               const HeldGroup<T> (&v)[kRows],
                               int lane,
                               float* to) {
  if constexpr (kFirst < kRows) {
    constexpr int kCount =
        std::min(8, kRows - kFirst);  // of more, the sums would take the registers
    float sums[kProducts * kCount] = {};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      float x[kColumns];
      v[kFirst + i].columns(x);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        sums[i] += w[c] * x[c];
        if constexpr (kProducts > 1) sums[kCount + i] += x[c] * x[c];
        if constexpr (kProducts > 2) sums[2 * kCount + i] += d[c] * x[c];
      }
    }
    attnres::store_warp_sums(sums, lane, to + kFirst,
                             [](int i) { return i / kCount * kRows + i % kCount; });
    store_products<kProducts, kFirst + kCount>(w, d, v, lane, to);
  }
}

/// The thread's columns of the query, of its gradient and of that of the norm's weight.
struct Weights {
  float w[kColumns];
  float dw[kColumns];
  float dgamma[kColumns];
};

/// d = what comes in for the mixed row, and what comes through its norm; adds the token's share to dgamma.
/// Returns the product of d with row i in lane i.
template <class T, int kRows, bool kEarly>
__device__ float through_norm(const SimtArguments& p,
                              const Place& place,
                              TokenRows<T, kRows, kEarly>& rows,
                              float lane_weight,
                              Scratch<kRows, true>& scratch,
                              Weights& weights,
                              float (&d)[kColumns]) {
  attnres::HeldAnyGroup held_gamma;  // from the caches: no registers over the token
  held_gamma.load(p.gamma.data, p.wt.dtype, place.group, place.exists);
  float h[kColumns];
  float dnormed[kColumns];
  float gamma[kColumns];
  attnres::forget_columns(rows.v);
  attnres::mix_rows(rows.v, lane_weight, h);
  attnres::round_columns(p.out_dtype, h);
  rows.dnormed.columns(dnormed);
  held_gamma.columns(p.wt.dtype, gamma);
  float sums[2] = {};
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    sums[0] += h[c] * h[c];
    sums[1] += gamma[c] * dnormed[c] * h[c];
  }
  attnres::store_warp_sums(sums, place.lane, scratch.norms[place.warp], [](int i) { return i; });
  __syncthreads();  // all warps: their sums for the norm are there
  const float total = attnres::lane_total(scratch.norms, place.warps, place.lane);
  const auto D = static_cast<float>(p.D);
  const float rho = 1.0f / sqrtf(__shfl_sync(0xffffffffu, total, 0) / D + p.norm_eps);
  const float back = rho * rho * rho * __shfl_sync(0xffffffffu, total, 1) / D;
  rows.dout.columns(d);
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    weights.dgamma[c] += dnormed[c] * (h[c] * rho);
    d[c] += rho * (gamma[c] * dnormed[c]) - back * h[c];
  }
  attnres::forget_columns(rows.v);
  store_products<1, 0>(d, d, rows.v, place.lane, scratch.normed_products[place.warp]);
  __syncthreads();  // all warps: their products with the gradient are there
  return attnres::lane_total(scratch.normed_products, place.warps, place.lane);
}

/// Scalars of row i in lane i.
struct LaneGradient {
  float weight;
  float through;  // of the logit's gradient, times r
  float back;     // what the row's norm gives back, per element of it
};

/// From the product c of the mixed row's gradient with row i in lane i.
template <int kRows>
__device__ LaneGradient lane_gradient(
    const SimtArguments& p, const attnres::LaneWeights& weights, float c, float dlse, int lane) {
  constexpr int kLanes = attnres::power_of_two(kRows);
  const bool has_row = lane < p.N;
  const float weight = has_row ? weights.weight() : 0.0f;
  const float mean = warp_reduce<kLanes>(has_row ? weight * c : 0.0f, Sum{});
  // Of one source the output is the source: no rounding may leave its logit a gradient.
  const float centred = p.N == 1 ? 0.0f : c - mean;
  const float g = has_row ? weight * (centred + dlse) : 0.0f;
  const float logit = has_row ? weights.logit : 0.0f;
  return {weight, g * weights.r, g * logit * weights.r * weights.r / static_cast<float>(p.D)};
}

/// Stores the gradients of the rows, and adds what they give the query's.
template <class T, int kRows, bool kEarly>
__device__ void store_gradients(const SimtArguments& p,
                                const Place& place,
                                std::int64_t token,
                                TokenRows<T, kRows, kEarly>& rows,
                                const LaneGradient& gradient,
                                const float (&d)[kColumns],
                                Weights& weights) {
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const float weight = __shfl_sync(0xffffffffu, gradient.weight, row);
    const float through = __shfl_sync(0xffffffffu, gradient.through, row);
    const float back = __shfl_sync(0xffffffffu, gradient.back, row);
    float x[kColumns];
    float dv[kColumns];
    rows.v[row].columns(x);
    rows.held_row(p, place, token, row).columns(dv);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      dv[c] += weight * d[c] + (through * weights.w[c] - back * x[c]);
      weights.dw[c] += through * x[c];
    }
    if (place.exists && row < p.N)
      attnres::store_group(static_cast<T*>(p.dv.data[row]) + token * p.dv.stride, place.group, dv);
  }
}

template <class T, int kRows, bool kNorm>
__global__ void __launch_bounds__(attnres::kHeldThreads, 1)
    held_bwd_kernel(const __grid_constant__ SimtArguments p) {
  __shared__ Scratch<kRows, kNorm> scratch;
  constexpr int kProducts = Scratch<kRows, kNorm>::kProducts;
  constexpr bool kEarly = !kNorm || kRows * sizeof(T) <= 5 * sizeof(__half);
  const auto thread = static_cast<int>(threadIdx.x);
  const Place place{thread % 32, thread / 32, static_cast<int>(blockDim.x) / 32, thread,
                    thread < p.groups};
  Weights weights{};
  attnres::HeldAnyGroup query;
  query.load(p.wt.data, p.wt.dtype, place.group, place.exists);
  query.columns(p.wt.dtype, weights.w);
  const float inverse_width = 1.0f / static_cast<float>(p.D);
  int half = 0;
  for (std::int64_t token = blockIdx.x; token < p.tokens; token += gridDim.x, half ^= 1) {
    TokenRows<T, kRows, kEarly> rows;
    rows.load(p, place, token);
    const float dlse = p.dlse ? p.dlse[token] : 0.0f;
    float d[kColumns] = {};
    if constexpr (!kNorm) rows.dout.columns(d);
    auto& products = scratch.products[half];
    store_products<kProducts, 0>(weights.w, d, rows.v, place.lane, products[place.warp]);
    __syncthreads();  // all warps: their products are there; those of a norm have been read
    const float total = attnres::lane_total(products, place.warps, place.lane);
    const attnres::LaneWeights lane =
        attnres::lane_softmax<kRows>(total, p.N, inverse_width, p.eps, place.lane);
    float c;
    if constexpr (kNorm) {
      c = through_norm(p, place, rows, lane.weight(), scratch, weights, d);
    } else {
      c = __shfl_sync(0xffffffffu, total, (place.lane + 2 * kRows) % 32);
    }
    attnres::forget_columns(rows.v);
    const LaneGradient gradient = lane_gradient<kRows>(p, lane, c, dlse, place.lane);
    store_gradients(p, place, token, rows, gradient, d, weights);
  }
  if (!place.exists) return;
  const std::int64_t share = static_cast<std::int64_t>(blockIdx.x) * p.groups * kColumns;
  attnres::store_split(p.dwt + share, p.groups, place.group, weights.dw);
  if constexpr (kNorm)
    attnres::store_split(p.dgamma + share, p.groups, place.group, weights.dgamma);
}

template <class T, bool kNorm>
SimtKernel kernel_of(int sources) {
  constexpr int kMostRows = sizeof(T) == 2 ? 9 : 5;
  SimtKernel kernel = nullptr;
  dispatch<2, 3, 5, 9, 16>(sources, [&](auto rows) {
    if constexpr (rows() <= kMostRows) kernel = held_bwd_kernel<T, rows(), kNorm>;
  });
  return kernel;
}

}  // namespace

SimtKernel held_kernel(DType dtype, int sources, bool norm) {
  SimtKernel kernel = nullptr;
  with_element_type(dtype, [&]<class T>(std::type_identity<T>) {
    kernel = norm ? kernel_of<T, true>(sources) : kernel_of<T, false>(sources);
  });
  return kernel;
}

}  // namespace attn::attnres_mix_bwd
