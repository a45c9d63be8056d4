// The kernels of the fp64 oracle on the GPU, for a chunk of heads of a problem that is not ragged: the
// norms of the rows of k; per query the exact maximum, then the sums over its keys; per key the sums
// over its queries. Scores are computed three times, in the same order each time, and never stored.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn::oracle {

constexpr double kU = 0x1p-24;  // fp32 unit roundoff, of which every error bound is made
constexpr double kWalk = 4;

constexpr int kTile = 64;   // rows of q or k in a tile
constexpr int kDepth = 32;  // components staged at a time
constexpr int kSide = 16;   // threads along each side of a tile
constexpr int kOwn = 4;     // rows a thread owns along each side
constexpr int kThreads = kSide * kSide;
constexpr int kPitch = kTile + 1;  // odd: a column of doubles touches every bank
static_assert(kSide * kOwn == kTile, "the threads tile the scores");

/// What the columns need to know of one query.
struct RowFacts {
  double origin;      // exact maximum of the visible scores, or the given lse; 0 when all are -inf
  double sum;         // of exp(s - origin), 1 for a given lse; +inf for a row without weight
  double per_key;     // error of a score per unit of |k_j|
  double drift;       // the part of rel_ij that does not depend on j
  double mean_score;  // sum_k p_ik |s_ik|
};

/// Results of a chunk of heads in device memory, each [heads, N].
struct Outputs {
  double* value;
  float* drift;
  float* stored;
  float* square;
};

struct Job {
  TensorView q;  // [B, H, M, D]
  TensorView k;  // [B, H_kv, N, D]
  AttentionMask mask;
  RowRange contributing;  // queries
  std::int64_t H;
  std::int64_t group;       // query heads per key head
  std::int64_t first_head;  // of the chunk, batch and head together
  double scale;
  double softcap;  // 0: none
  bool is_max;
  TensorView given_lse;  // [B, H, M]; without data: computed
  double* k_norms;       // [heads of the chunk, N]
  double* k_longest;     // [heads of the chunk]
  RowFacts* rows;        // [heads of the chunk, contributing queries]
  Outputs out;

  __device__ double score(double dot) const {
    const double s = scale * dot;
    return softcap > 0 ? softcap * tanh(s / softcap) : s;
  }
  /// Whether query m sees key n, which may lie beyond the last.
  __device__ bool sees(std::int64_t m, std::int64_t n) const {
    return n < mask.N && mask.visible(m, n);
  }
};

/// The rows of one head.
struct Head {
  const void* data;
  DType dtype;
  std::int64_t first;  // element (0, 0)
  std::int64_t stride;
  std::int64_t rows;
  std::int64_t D;

  __device__ double at(std::int64_t row, std::int64_t d) const {
    return load_element(data, dtype, first + row * stride + d);
  }
};

__device__ Head head_of(const TensorView& tensor, std::int64_t b, std::int64_t h) {
  return {tensor.data,       tensor.dtype,    tensor.offset(b, h, 0),
          tensor.strides[2], tensor.shape[2], tensor.shape[3]};
}
__device__ Head q_head(const Job& job, std::int64_t head) {
  const std::int64_t bh = job.first_head + head;
  return head_of(job.q, bh / job.H, bh % job.H);
}
__device__ Head k_head(const Job& job, std::int64_t head) {
  const std::int64_t bh = job.first_head + head;
  return head_of(job.k, bh / job.H, bh % job.H / job.group);
}

__device__ double norm_of(const Head& head, std::int64_t row) {
  double square = 0;
  for (std::int64_t d = 0; d < head.D; ++d) square += head.at(row, d) * head.at(row, d);
  return sqrt(square);
}

/// The larger value; a NaN in either stays.
__device__ double larger(double a, double b) { return b > a || isnan(b) ? b : a; }

__device__ double reduce(bool is_max, double a, double b) { return is_max ? larger(a, b) : a + b; }

/// Combines the values of 16 neighbouring lanes, for all of them. All lanes take part.
template <class Combine>
__device__ double reduce_side(double value, Combine combine) {
  for (int distance = kSide / 2; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

/// Norms of the rows of k and their maximum: a CTA a head.
__global__ void __launch_bounds__(kThreads) measure_keys(const Job job) {
  __shared__ double longest[kThreads];
  const Head k = k_head(job, blockIdx.x);
  double mine = 0;
  for (std::int64_t n = threadIdx.x; n < k.rows; n += kThreads) {
    const double norm = norm_of(k, n);
    job.k_norms[blockIdx.x * k.rows + n] = norm;
    mine = fmax(mine, norm);
  }
  longest[threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kThreads; ++i) mine = fmax(mine, longest[i]);
  job.k_longest[blockIdx.x] = mine;
}

struct Tiles {
  double a[kDepth][kPitch];
  double b[kDepth][kPitch];
};

__device__ void load_tile(const Head& head,
                          std::int64_t first,
                          std::int64_t d0,
                          double (&tile)[kDepth][kPitch]) {
#pragma unroll 4
  for (int item = static_cast<int>(threadIdx.x); item < kTile * kDepth; item += kThreads) {
    const int d = item % kDepth;
    const int row = item / kDepth;
    const bool exists = first + row < head.rows && d0 + d < head.D;
    tile[d][row] = exists ? head.at(first + row, d0 + d) : 0;
  }
}

/// Dot products of rows a0 + 4 y + i of `a` with rows b0 + x + 16 j of `b`, where the thread's
/// number is 16 y + x. All threads of the CTA take part.
__device__ void dot_tile(const Head& a,
                         std::int64_t a0,
                         const Head& b,
                         std::int64_t b0,
                         Tiles& tiles,
                         double (&dots)[kOwn][kOwn]) {
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const int y = static_cast<int>(threadIdx.x) / kSide;
  for (int i = 0; i < kOwn; ++i) {
    for (int j = 0; j < kOwn; ++j) dots[i][j] = 0;
  }
  for (std::int64_t d0 = 0; d0 < a.D; d0 += kDepth) {
    __syncthreads();  // all threads: the previous components are no longer read
    load_tile(a, a0, d0, tiles.a);
    load_tile(b, b0, d0, tiles.b);
    __syncthreads();  // all threads: both tiles are complete
#pragma unroll 4
    for (int d = 0; d < kDepth; ++d) {
      for (int i = 0; i < kOwn; ++i) {
        for (int j = 0; j < kOwn; ++j)
          dots[i][j] = fma(tiles.a[d][y * kOwn + i], tiles.b[d][x + kSide * j], dots[i][j]);
      }
    }
  }
}

/// The errors of query m's scores and their exponentials, whatever its normaliser.
__device__ RowFacts measured(const Job& job, const Head& q, std::int64_t m, double longest_key) {
  const double reach = fabs(job.scale) * norm_of(q, m);
  const double largest = reach * longest_key;  // no score of the row is larger
  return {.origin = 0,
          .sum = INFINITY,
          .per_key = kWalk * sqrt(static_cast<double>(q.D)) * 2 * kU * reach,
          .drift = 4 * kU * largest + 8 * kU * fmin(job.softcap, largest) + 8 * kU,
          .mean_score = 0};
}

/// Facts of queries under a given lse: a thread a query.
__global__ void __launch_bounds__(kThreads) take_rows(const Job job) {
  const RowRange queries = job.contributing;
  const std::int64_t tile_count = (queries.count() + kThreads - 1) / kThreads;
  const std::int64_t head = blockIdx.x / tile_count;
  const std::int64_t row = blockIdx.x % tile_count * kThreads + threadIdx.x;
  if (row >= queries.count()) return;
  const std::int64_t m = queries.begin + row;
  const std::int64_t bh = job.first_head + head;
  const double lse = static_cast<const float*>(
      job.given_lse.data)[job.given_lse.offset(bh / job.H, bh % job.H, m)];
  RowFacts& facts = job.rows[head * queries.count() + row];
  facts = {0, INFINITY, 0, 0, 0};
  if (isinf(lse)) return;
  facts = measured(job, q_head(job, head), m, job.k_longest[head]);
  facts.origin = lse;
  facts.sum = 1;
  facts.drift += 4 * kU * fabs(lse);
}

/// Facts of 64 queries: one reading of the keys for the maximum, a second for the sums.
__global__ void __launch_bounds__(kThreads) reduce_rows(const Job job) {
  __shared__ Tiles tiles;
  const RowRange queries = job.contributing;
  const std::int64_t tile_count = (queries.count() + kTile - 1) / kTile;
  const std::int64_t head = blockIdx.x / tile_count;
  const std::int64_t m0 = queries.begin + blockIdx.x % tile_count * kTile;
  const Head q = q_head(job, head);
  const Head k = k_head(job, head);
  const double* k_norms = job.k_norms + head * k.rows;
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const std::int64_t m_own = m0 + static_cast<int>(threadIdx.x) / kSide * kOwn;
  const std::int64_t last = m0 + kTile < queries.end ? m0 + kTile - 1 : queries.end - 1;
  const std::int64_t begin = job.mask.key_begin(m0);
  const std::int64_t end = job.mask.key_end(last);

  double dots[kOwn][kOwn];
  double top[kOwn];
  for (int i = 0; i < kOwn; ++i) top[i] = -INFINITY;
  for (std::int64_t n0 = begin; n0 < end; n0 += kTile) {
    dot_tile(q, m0, k, n0, tiles, dots);
    for (int i = 0; i < kOwn; ++i) {
      for (int j = 0; j < kOwn; ++j) {
        const std::int64_t n = n0 + x + kSide * j;
        if (job.sees(m_own + i, n)) top[i] = fmax(top[i], job.score(dots[i][j]));
      }
    }
  }
  double sum[kOwn] = {};
  double norm_sum[kOwn] = {};   // of exp(s - origin) |k|
  double score_sum[kOwn] = {};  // of exp(s - origin) |s|
  for (int i = 0; i < kOwn; ++i) {
    top[i] = reduce_side(top[i], [](double a, double b) { return fmax(a, b); });
    if (top[i] == -INFINITY) top[i] = 0;  // -inf scores weigh nothing, NaN still poisons
  }
  for (std::int64_t n0 = begin; n0 < end; n0 += kTile) {
    dot_tile(q, m0, k, n0, tiles, dots);
    for (int i = 0; i < kOwn; ++i) {
      for (int j = 0; j < kOwn; ++j) {
        const std::int64_t n = n0 + x + kSide * j;
        if (!job.sees(m_own + i, n)) continue;
        const double s = job.score(dots[i][j]);
        const double e = exp(s - top[i]);
        sum[i] += e;
        norm_sum[i] += e * k_norms[n];
        score_sum[i] += e == 0 ? 0 : e * fabs(s);
      }
    }
  }
  const auto add = [](double a, double b) { return a + b; };
  for (int i = 0; i < kOwn; ++i) {
    const double total = reduce_side(sum[i], add);
    const double mean_norm = reduce_side(norm_sum[i], add) / total;
    const double mean_score = reduce_side(score_sum[i], add) / total;
    const std::int64_t m = m_own + i;
    if (x != 0 || m >= queries.end) continue;
    RowFacts& facts = job.rows[head * queries.count() + m - queries.begin];
    if (total == 0) {
      facts = {0, INFINITY, 0, 0, 0};
      continue;
    }
    facts = measured(job, q, m, job.k_longest[head]);
    facts.origin = top[i];
    facts.sum = total;
    facts.mean_score = mean_score;
    // The normaliser has the errors of its terms, whose row part counts once more.
    facts.drift += facts.drift - 8 * kU + facts.per_key * mean_norm +
                   kWalk * sqrt(static_cast<double>(k.rows)) * kU;
  }
}

/// Results of 64 keys: one reading of the queries.
__global__ void __launch_bounds__(kThreads, 2) reduce_columns(const Job job) {
  __shared__ Tiles tiles;
  const RowRange queries = job.contributing;
  const std::int64_t N = job.mask.N;
  const std::int64_t tile_count = (N + kTile - 1) / kTile;
  const std::int64_t head = blockIdx.x / tile_count;
  const std::int64_t n0 = blockIdx.x % tile_count * kTile;
  const Head q = q_head(job, head);
  const Head k = k_head(job, head);
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const std::int64_t n_own = n0 + static_cast<int>(threadIdx.x) / kSide * kOwn;
  const bool is_max = job.is_max;

  const double* k_norms = job.k_norms + head * N;
  double value[kOwn] = {};
  double drift[kOwn] = {};
  double stored[kOwn] = {};
  double square[kOwn] = {};
  const std::int64_t first = max(job.mask.query_begin(n0), queries.begin);
  const std::int64_t end = min(job.mask.query_end(n0 + kTile - 1), queries.end);
  for (std::int64_t m0 = first; m0 < end; m0 += kTile) {
    double dots[kOwn][kOwn];
    dot_tile(k, n0, q, m0, tiles, dots);
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const std::int64_t m = m0 + x + kSide * j;
      if (m >= queries.end) continue;
      const RowFacts& row = job.rows[head * queries.count() + m - queries.begin];
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        if (!job.sees(m, n_own + i)) continue;
        const double s = job.score(dots[i][j]);
        const double p = exp(s - row.origin) / row.sum;
        const double magnitude = p == 0 ? 0 : fabs(s) + row.mean_score;
        value[i] = reduce(is_max, value[i], p);
        drift[i] = reduce(is_max, drift[i], p * (row.per_key * k_norms[n_own + i] + row.drift));
        stored[i] = reduce(is_max, stored[i], p * magnitude);
        square[i] = reduce(is_max, square[i], p * p);
      }
    }
  }
  const auto combine = [is_max](double a, double b) { return reduce(is_max, a, b); };
  for (int i = 0; i < kOwn; ++i) {
    const double totals[] = {reduce_side(value[i], combine), reduce_side(drift[i], combine),
                             reduce_side(stored[i], combine), reduce_side(square[i], combine)};
    if (x != 0 || n_own + i >= N) continue;
    const std::int64_t at = head * N + n_own + i;
    job.out.value[at] = totals[0];
    job.out.drift[at] = static_cast<float>(totals[1]);
    job.out.stored[at] = static_cast<float>(totals[2]);
    job.out.square[at] = static_cast<float>(totals[3]);
  }
}

}  // namespace attn::oracle
