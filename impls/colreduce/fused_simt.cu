// Column reduction on CUDA cores in two passes over the scores, which are never stored.
//
// Adds:     no M x N matrix, one number per query between the passes; one rounding, at the end.
// Mapping:  pass 1: a CTA of 128 threads keeps 64 queries and streams tiles of 64 keys; pass 2
//           keeps 64 keys and streams queries. grid.x = heads x tiles. A thread owns 8 kept x 4
//           streamed rows; its row (pass 1) or column (pass 2) results stay in registers.
// Memory:   2 tiles of 64 rows x 32 components in fp32, component-major: 17 KB of shared memory;
//           scratch: the normaliser of every query, 4 B H M bytes.
// Limit:    4 D FLOP and 2 exponentials per visible pair; bound by fp32 FMA: 3 shared loads of 16
//           bytes feed 32 FMAs. Tiles that the mask hides are neither loaded nor computed.
// Rounding: fp32 everywhere; the products of f16 and bf16 inputs are exact; ex2.approx, base-2
//           scores; the output is rounded once.
// Source:   online softmax: impls/common/online_softmax.cuh; the split into a row pass and a column
//           pass: FlashAttention-2 (Dao, 2023), algorithm 2's recomputation of P from the lse.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <limits>

#include "harness/core/cuda_check.h"
#include "impls/common/online_softmax.cuh"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"
#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;

constexpr int kTile = 64;   // rows of q or k in a tile
constexpr int kDepth = 32;  // components of D in shared memory at a time
constexpr int kThreads = 128;
constexpr int kKept = 8;                   // rows of the kept tile that a thread owns
constexpr int kStreamed = 4;               // rows of the streamed tile that a thread owns
constexpr int kLanes = kTile / kStreamed;  // threads that share the same kept rows
constexpr int kPitch = kTile + 4;          // keeps float4 alignment
static_assert(kLanes * (kTile / kKept) == kThreads, "the threads tile the scores");
static_assert(32 % kLanes == 0, "threads that share kept rows lie in one warp");

struct Params {
  TensorView q;  // [B, H, M, D]
  TensorView k;  // [B, H_kv, N, D]
  AttentionMask mask;
  RowRange queries;  // that contribute
  std::int64_t H;
  std::int64_t group;  // query heads per key head
  int D;
  float scale_log2;  // scores are in base 2
  float* lse_log2;   // [B, H, contributing queries]
  void* out;         // [B, H, N]
  DType out_dtype;
  Reduction reduction;
  MeanOver mean_over;
};

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
__device__ int tile_local(std::int64_t value) {
  constexpr std::int64_t kFar = 2 * kTile;
  return static_cast<int>(value < -kFar ? -kFar : value > kFar ? kFar : value);
}

/// Pass 1: lse_log2 of 64 queries.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads) row_pass(const Params p) {
  __shared__ SharedTiles tiles;
  const std::int64_t tile_count = (p.queries.count() + kTile - 1) / kTile;
  const std::int64_t bh = blockIdx.x / tile_count;
  // Under a causal mask the last queries see the most keys: they start first.
  const std::int64_t m0 = p.queries.begin + (tile_count - 1 - blockIdx.x % tile_count) * kTile;
  const Head<T> q = head_of<T>(p.q, bh / p.H, bh % p.H);
  const Head<T> k = head_of<T>(p.k, bh / p.H, bh % p.H / p.group);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int slot = static_cast<int>(threadIdx.x) / kLanes;

  OnlineSoftmax rows[kKept];
  const std::int64_t key_end = p.mask.key_end(min(m0 + kTile, p.queries.end) - 1);
  for (std::int64_t n0 = 0; n0 < key_end; n0 += kTile) {
    float rS[kKept][kStreamed];
    score_tile<T, kVector>(q, m0, k, n0, p.D, tiles, rS);
    // Query m0 + i sees keys n0 + j with j < min(i + 1 + band, keys_left).
    const int band = tile_local(m0 + p.mask.diagonal - n0);
    const int keys_left = tile_local(k.rows - n0);
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const int visible = min(slot * kKept + i + 1 + band, keys_left);
      float scores[kStreamed];
#pragma unroll
      for (int j = 0; j < kStreamed; ++j)
        scores[j] = lane * kStreamed + j < visible ? rS[i][j] * p.scale_log2 : -INFINITY;
      rows[i].absorb(scores);
    }
  }
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    rows[i].merge_lanes<kLanes>();
    const std::int64_t m = m0 + slot * kKept + i;
    if (lane == 0 && m < p.queries.end)
      p.lse_log2[bh * p.queries.count() + m - p.queries.begin] = rows[i].lse_log2();
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
__device__ float divisor_of(const Params& p, std::int64_t n) {
  if (p.reduction != Reduction::kMean) return 1.0f;
  const std::int64_t seen = p.queries.end - max(p.mask.query_begin(n), p.queries.begin);
  const std::int64_t count = p.mean_over == MeanOver::kAll ? p.queries.count() : seen;
  return static_cast<float>(count > 0 ? count : 1);
}

/// Pass 2: the column results of 64 keys.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads) column_pass(const Params p) {
  __shared__ SharedTiles tiles;
  const RowRange queries = p.queries;
  const std::int64_t N = p.mask.N;
  const std::int64_t tile_count = (N + kTile - 1) / kTile;
  const std::int64_t bh = blockIdx.x / tile_count;
  const std::int64_t n0 = blockIdx.x % tile_count * kTile;
  const Head<T> q = head_of<T>(p.q, bh / p.H, bh % p.H);
  const Head<T> k = head_of<T>(p.k, bh / p.H, bh % p.H / p.group);
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int slot = static_cast<int>(threadIdx.x) / kLanes;
  const bool is_max = p.reduction == Reduction::kMax;

  float columns[kKept] = {};
  const std::int64_t unseeing = max(p.mask.query_begin(n0) - queries.begin, std::int64_t{0});
  const float* lse_log2 = p.lse_log2 + bh * queries.count() - queries.begin;
  for (std::int64_t m0 = queries.begin + unseeing / kTile * kTile; m0 < queries.end; m0 += kTile) {
    float lse[kStreamed];
#pragma unroll
    for (int j = 0; j < kStreamed; ++j) {
      const std::int64_t m = m0 + lane * kStreamed + j;
      lse[j] = m < queries.end ? lse_log2[m] : INFINITY;
    }
    float rS[kKept][kStreamed];
    score_tile<T, kVector>(k, n0, q, m0, p.D, tiles, rS);
    const int band = tile_local(m0 + p.mask.diagonal - n0);
    const int queries_left = tile_local(queries.end - m0);
#pragma unroll
    for (int j = 0; j < kStreamed; ++j) {
      const int query = lane * kStreamed + j;
      // Keys n0 + i with i < visible are seen by query m0 + j.
      const int visible = query < queries_left ? query + 1 + band : 0;
#pragma unroll
      for (int i = 0; i < kKept; ++i) {
        // A select, not a product: a hidden key may hold NaN.
        const float weight = exp2_approx(fmaf(rS[i][j], p.scale_log2, -lse[j]));
        rS[i][j] = slot * kKept + i < visible ? weight : 0.0f;
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
    const float total = is_max ? warp_reduce<kLanes>(columns[i], MaxOrNan{})
                               : warp_reduce<kLanes>(columns[i], Sum{});
    const std::int64_t n = n0 + slot * kKept + i;
    if (lane == 0 && n < N) store_rounded(p.out, p.out_dtype, bh * N + n, total / divisor_of(p, n));
  }
}

using Kernel = void (*)(Params);
struct Kernels {
  Kernel row;
  Kernel column;
};

Kernels kernels_for(DType dtype, bool vectors) {
  return with_element_type(dtype, [&]<class T>(std::type_identity<T>) -> Kernels {
    constexpr int kWide = kVectorElements<T>;
    if (vectors) return {row_pass<T, kWide>, column_pass<T, kWide>};
    return {row_pass<T, 1>, column_pass<T, 1>};
  });
}

/// Whether every row starts on 16 bytes and consists of whole vectors.
bool has_vector_rows(const TensorView& tensor) {
  const auto width = static_cast<std::int64_t>(16 / size_of(tensor.dtype));
  bool aligned = reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0;
  for (std::size_t axis = 0; axis < 3; ++axis)
    aligned = aligned && (tensor.shape[axis] == 1 || tensor.strides[axis] % width == 0);
  return aligned && tensor.shape[3] % width == 0;
}

std::int64_t cta_count(const Problem& p, std::int64_t rows) {
  return p.B * p.H * ((rows + kTile - 1) / kTile);
}

Support supports(const Problem& p, const DeviceInfo&) {
  constexpr std::int64_t kMaxGrid = std::numeric_limits<std::int32_t>::max();
  if (p.D > kMaxGrid - kDepth) return Support::no("D must fit 32 bits");
  if (cta_count(p, std::max(p.contributing().count(), p.N)) > kMaxGrid)
    return Support::no("B * H * ceil(max(queries, N) / 64) must be below 2^31");
  return Support::yes();
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo&) {
  return static_cast<std::size_t>(p.B * p.H * p.contributing().count()) * sizeof(float);
}

Launch plan(const Problem& p,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo&) {
  const Params params{.q = tensors.q,
                      .k = tensors.k,
                      .mask = p.attention_mask(),
                      .queries = p.contributing(),
                      .H = p.H,
                      .group = p.H / p.key_heads(),
                      .D = static_cast<int>(p.D),
                      .scale_log2 = static_cast<float>(p.scale_value() * kLog2E),
                      .lse_log2 = static_cast<float*>(workspace.data),
                      .out = tensors.out.data,
                      .out_dtype = p.out_dtype,
                      .reduction = p.reduction,
                      .mean_over = p.mean_over};
  const bool vectors = has_vector_rows(tensors.q) && has_vector_rows(tensors.k);
  const Kernels kernels = kernels_for(p.dtype, vectors);
  const auto row_ctas = static_cast<unsigned>(cta_count(p, p.contributing().count()));
  const auto column_ctas = static_cast<unsigned>(cta_count(p, p.N));
  return {.enqueue =
              [=](Stream stream) {
                const auto handle = static_cast<cudaStream_t>(stream.handle);
                kernels.row<<<row_ctas, kThreads, 0, handle>>>(params);
                CUDA_CHECK_LAUNCH();
                kernels.column<<<column_ctas, kThreads, 0, handle>>>(params);
                CUDA_CHECK_LAUNCH();
              },
          .note = vectors ? "16-byte loads" : "scalar loads",
          .kernels = {{reinterpret_cast<const void*>(kernels.row), 0},
                      {reinterpret_cast<const void*>(kernels.column), 0}}};
}

}  // namespace

extern const Backend<ColReduce> fused_simt;
constinit const Backend<ColReduce> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "two passes over the scores on CUDA cores, nothing M x N is stored",
             .memory = MemorySpace::kDevice,
             .math = "exact products, fp32 FMA, ex2.approx",
             .numerics = NumericsClass::kFp32,
             .deterministic = true},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
