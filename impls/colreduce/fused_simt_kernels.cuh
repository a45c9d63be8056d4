// The two kernels of fused_simt; its head describes them. kOptions: whether the options of the
// contract beyond mask, divisor and query range are looked at, each a branch that all threads take
// alike.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "impls/colreduce/fused_simt.h"
#include "impls/common/online_softmax.cuh"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce::simt {

constexpr int kTile = kSimtTile;
constexpr int kDepth = 32;  // components of D in shared memory at a time
constexpr int kThreads = kSimtThreads;
constexpr int kKept = 8;                   // rows of the kept tile that a thread owns
constexpr int kStreamed = 4;               // rows of the streamed tile that a thread owns
constexpr int kLanes = kTile / kStreamed;  // threads that share the same kept rows
constexpr int kPitch = kTile + 4;          // keeps float4 alignment
static_assert(kLanes * (kTile / kKept) == kThreads, "the threads tile the scores");
static_assert(32 % kLanes == 0, "threads that share kept rows lie in one warp");

/// The rows of one head.
template <class T>
struct Head {
  const T* data;  // [rows, D]
  std::int64_t stride;
  std::int64_t rows;
};

template <class T>
__device__ Head<T> head_of(const TensorView& tensor, std::int64_t b, std::int64_t h) {
  return {static_cast<const T*>(tensor.data) + tensor.offset(b, h, 0), tensor.strides[2],
          tensor.shape[2]};
}

struct SharedTiles {
  alignas(16) float kept[kDepth][kPitch];
  alignas(16) float streamed[kDepth][kPitch];
};

/// Copies components [d0, d0 + kDepth) of rows [first, first + kTile) into shared memory; rows and
/// components that do not exist become 0. kVector: elements a load, 1 or a whole aligned vector.
template <class T, int kVector>
__device__ void load_tile(
    const Head<T>& head, std::int64_t first, int d0, int D, float (&tile)[kDepth][kPitch]) {
  constexpr int kLoads = kTile * kDepth / kVector / kThreads;
  constexpr int kInFlight = kLoads < 4 ? kLoads : 4;  // 16 took 168 registers and spilled
#pragma unroll kInFlight
  for (int load = 0; load < kLoads; ++load) {
    const int item = load * kThreads + static_cast<int>(threadIdx.x);
    const int row = item % kTile;  // neighbouring lanes write neighbouring banks
    const int d = item / kTile * kVector;
    float x[kVector] = {};
    if (first + row < head.rows && d0 + d < D) {
      const T* source = head.data + (first + row) * head.stride + d0 + d;
      if constexpr (kVector == 1) {
        x[0] = to_float(*source);
      } else {
        load_vector(source, x);
      }
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) tile[d + i][row] = x[i];
  }
}

/// Dot products of the thread's kept rows (from 8 * slot) and streamed rows (from 4 * lane). All
/// threads of the CTA take part.
template <class T, int kVector>
__device__ void score_tile(const Head<T>& kept,
                           std::int64_t kept_first,
                           const Head<T>& streamed,
                           std::int64_t streamed_first,
                           int D,
                           SharedTiles& tiles,
                           float (&rS)[kKept][kStreamed]) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int slot = static_cast<int>(threadIdx.x) / kLanes;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
#pragma unroll
    for (int j = 0; j < kStreamed; ++j) rS[i][j] = 0;
  }
  for (int d0 = 0; d0 < D; d0 += kDepth) {
    __syncthreads();  // all threads: the previous components are no longer read
    load_tile<T, kVector>(kept, kept_first, d0, D, tiles.kept);
    load_tile<T, kVector>(streamed, streamed_first, d0, D, tiles.streamed);
    __syncthreads();  // all threads: both tiles are complete
#pragma unroll 8
    for (int d = 0; d < kDepth; ++d) {
      const float4 low = *reinterpret_cast<const float4*>(&tiles.kept[d][slot * kKept]);
      const float4 high = *reinterpret_cast<const float4*>(&tiles.kept[d][slot * kKept + 4]);
      const float4 moving = *reinterpret_cast<const float4*>(&tiles.streamed[d][lane * kStreamed]);
      const float a[kKept] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      const float b[kStreamed] = {moving.x, moving.y, moving.z, moving.w};
#pragma unroll
      for (int i = 0; i < kKept; ++i) {
#pragma unroll
        for (int j = 0; j < kStreamed; ++j) rS[i][j] = fmaf(a[i], b[j], rS[i][j]);
      }
    }
  }
}

/// `value` as an int, cut to a range in which comparisons inside a tile come out the same.
__device__ inline int tile_local(std::int64_t value) {
  constexpr std::int64_t kFar = 2 * kTile;
  return static_cast<int>(value < -kFar ? -kFar : value > kFar ? kFar : value);
}

/// The dot products become scores in base 2.
__device__ inline void cap_scores(const SimtParams& p, float (&rS)[kKept][kStreamed]) {
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
#pragma unroll
    for (int j = 0; j < kStreamed; ++j) rS[i][j] = p.cap_log2 * tanhf(rS[i][j] * p.cap_scale);
  }
}

/// The natural lse of a row, -inf without weight.
__device__ inline float natural(const OnlineSoftmax& row) {
  const float lse_log2 = row.lse_log2();
  return lse_log2 == INFINITY ? -INFINITY : lse_log2 * static_cast<float>(1 / kLog2E);
}

/// What pass 2 subtracts from the scores of query m: base 2, +inf where the query has no weight.
template <bool kOptions>
__device__ float normaliser(const SimtParams& p, std::int64_t bh, std::int64_t m) {
  if (!kOptions || p.lse_log2) return p.lse_log2[bh * p.queries.count() + m - p.queries.begin];
  const float given = p.given_lse[bh * p.lse_pitch + m];
  return isinf(given) ? INFINITY : given * static_cast<float>(kLog2E);
}

/// Pass 1: lse_log2 of 64 queries.
template <class T, int kVector, bool kOptions>
__global__ void __launch_bounds__(kThreads) row_pass(const SimtParams p) {
  __shared__ SharedTiles tiles;
  const std::int64_t tile_count = (p.rows.count() + kTile - 1) / kTile;
  const std::int64_t bh = blockIdx.x / tile_count;
  // Under a causal mask the last queries see the most keys: they start first.
  const std::int64_t m0 = p.rows.begin + (tile_count - 1 - blockIdx.x % tile_count) * kTile;
  const Head<T> q = head_of<T>(p.q, bh / p.H, bh % p.H);
  const Head<T> k = head_of<T>(p.k, bh / p.H, bh % p.H / p.group);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int slot = static_cast<int>(threadIdx.x) / kLanes;

  OnlineSoftmax rows[kKept];
  const std::int64_t last = min(m0 + kTile, p.queries.end) - 1;
  const bool contributes = !kOptions || (last >= p.queries.begin && last >= m0);
  const std::int64_t key_end = contributes ? p.mask.key_end(last) : 0;
  const std::int64_t key_begin = kOptions ? p.mask.key_begin(m0) / kTile * kTile : 0;
  for (std::int64_t n0 = key_begin; n0 < key_end; n0 += kTile) {
    float rS[kKept][kStreamed];
    score_tile<T, kVector>(q, m0, k, n0, p.D, tiles, rS);
    const bool capped = kOptions && p.cap_log2 > 0;
    if (capped) cap_scores(p, rS);
    const float factor = capped ? 1.0f : p.scale_log2;
    // Query m0 + i sees keys n0 + j with i + window <= j < min(i + 1 + band, keys_left).
    const int band = tile_local(m0 + p.mask.diagonal - n0);
    const int window = kOptions ? tile_local(m0 + p.mask.left - n0) : 0;
    const int keys_left = tile_local(k.rows - n0);
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const int visible = min(slot * kKept + i + 1 + band, keys_left);
      float scores[kStreamed];
#pragma unroll
      for (int j = 0; j < kStreamed; ++j) {
        const int key = lane * kStreamed + j;
        const bool in_window = !kOptions || key >= slot * kKept + i + window;
        scores[j] = in_window && key < visible ? rS[i][j] * factor : -INFINITY;
      }
      rows[i].absorb(scores);
    }
  }
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    rows[i].merge_lanes<kLanes>();
    const std::int64_t m = m0 + slot * kKept + i;
    if (lane != 0 || m >= p.rows.end) continue;
    const bool own = !kOptions || (m >= p.queries.begin && m < p.queries.end);
    if (own) p.lse_log2[bh * p.queries.count() + m - p.queries.begin] = rows[i].lse_log2();
    if (kOptions && p.lse) p.lse[bh * p.lse_pitch + m] = own ? natural(rows[i]) : -INFINITY;
  }
}

template <class Combine>
__device__ void combine_columns(float (&columns)[kKept],
                                const float (&weights)[kKept][kStreamed],
                                Combine combine) {
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
#pragma unroll
    for (int j = 0; j < kStreamed; ++j) columns[i] = combine(columns[i], weights[i][j]);
  }
}

/// What the total of key n is divided by.
template <bool kOptions>
__device__ float divisor_of(const SimtParams& p, std::int64_t n) {
  const float averaged = kOptions ? p.averaged : 1.0f;
  if (p.reduction != Reduction::kMean) return averaged;
  const std::int64_t seen =
      min(p.mask.query_end(n), p.queries.end) - max(p.mask.query_begin(n), p.queries.begin);
  const std::int64_t count = p.mean_over == MeanOver::kAll ? p.queries.count() : seen;
  return averaged * static_cast<float>(count > 0 ? count : 1);
}

/// Pass 2: the column results of 64 keys, of one head of the output: its query heads in turn.
template <class T, int kVector, bool kOptions>
__global__ void __launch_bounds__(kThreads) column_pass(const SimtParams p) {
  __shared__ SharedTiles tiles;
  const RowRange queries = p.queries;
  const std::int64_t N = p.mask.N;
  const std::int64_t tile_count = (N + kTile - 1) / kTile;
  const std::int64_t out_head = blockIdx.x / tile_count;
  const std::int64_t n0 = blockIdx.x % tile_count * kTile;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int slot = static_cast<int>(threadIdx.x) / kLanes;
  const bool is_max = p.reduction == Reduction::kMax;

  float totals[kKept] = {};
  std::int64_t bh = kOptions ? out_head * p.combined : out_head;
  do {
    const Head<T> q = head_of<T>(p.q, bh / p.H, bh % p.H);
    const Head<T> k = head_of<T>(p.k, bh / p.H, bh % p.H / p.group);
    float columns[kKept] = {};
    const std::int64_t unseeing = max(p.mask.query_begin(n0) - queries.begin, std::int64_t{0});
    const std::int64_t end =
        kOptions ? min(p.mask.query_end(n0 + kTile - 1), queries.end) : queries.end;
    for (std::int64_t m0 = queries.begin + unseeing / kTile * kTile; m0 < end; m0 += kTile) {
      float lse[kStreamed];
#pragma unroll
      for (int j = 0; j < kStreamed; ++j) {
        const std::int64_t m = m0 + lane * kStreamed + j;
        lse[j] = m < queries.end ? normaliser<kOptions>(p, bh, m) : INFINITY;
      }
      float rS[kKept][kStreamed];
      score_tile<T, kVector>(k, n0, q, m0, p.D, tiles, rS);
      const bool capped = kOptions && p.cap_log2 > 0;
      if (capped) cap_scores(p, rS);
      const float factor = capped ? 1.0f : p.scale_log2;
      const int band = tile_local(m0 + p.mask.diagonal - n0);
      const int window = kOptions ? tile_local(m0 + p.mask.left - n0) : 0;
      const int queries_left = tile_local(queries.end - m0);
#pragma unroll
      for (int j = 0; j < kStreamed; ++j) {
        const int query = lane * kStreamed + j;
        // Keys n0 + i with query + window <= i < visible are seen by query m0 + query.
        const int visible = query < queries_left ? query + 1 + band : 0;
#pragma unroll
        for (int i = 0; i < kKept; ++i) {
          // A select, not a product: a hidden key may hold NaN.
          const float weight = exp2_approx(fmaf(rS[i][j], factor, -lse[j]));
          const int key = slot * kKept + i;
          const bool in_window = !kOptions || key >= query + window;
          rS[i][j] = in_window && key < visible ? weight : 0.0f;
        }
      }
      if (is_max) {
        combine_columns(columns, rS, MaxOrNan{});
      } else {
        combine_columns(columns, rS, Sum{});
      }
    }
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const float column = is_max ? warp_reduce<kLanes>(columns[i], MaxOrNan{})
                                  : warp_reduce<kLanes>(columns[i], Sum{});
      const bool larger = kOptions && p.max_over_heads;
      totals[i] = larger ? MaxOrNan{}(totals[i], column) : totals[i] + column;
    }
  } while (kOptions && ++bh < (out_head + 1) * p.combined);
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    const std::int64_t n = n0 + slot * kKept + i;
    if (lane == 0 && n < N)
      store_rounded(p.out, p.out_dtype, out_head * (kOptions ? p.out_pitch : N) + n,
                    totals[i] / divisor_of<kOptions>(p, n));
  }
}

template <bool kOptions>
SimtKernels kernels_for(DType dtype, bool vectors) {
  return with_element_type(dtype, [&]<class T>(std::type_identity<T>) -> SimtKernels {
    constexpr int kWide = kVectorElements<T>;
    if (vectors) return {row_pass<T, kWide, kOptions>, column_pass<T, kWide, kOptions>};
    return {row_pass<T, 1, kOptions>, column_pass<T, 1, kOptions>};
  });
}

}  // namespace attn::colreduce::simt
