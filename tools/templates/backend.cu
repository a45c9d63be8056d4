// Column reduction on CUDA cores, a dot product at a time: a start to change step by step.
//
// Adds:     nothing yet; say here what it does that the previous rung does not.
// Mapping:  pass 1: a CTA of 128 threads a query, thread t takes keys t, t + 128, ...; pass 2: a
//           thread a key, 128 keys of one head a CTA, all queries that see them in turn.
// Memory:   no tiles; workspace: the normaliser of every query, 4 B H M bytes.
// Limit:    4 D FLOP and 2 exponentials per visible pair; bound by loads, which nothing reuses.
// Rounding: fp32 everywhere, products of 16-bit inputs exact, ex2.approx, base-2 scores; one
//           rounding into the output's type.
// Source:   the definition, reference/colreduce/README.md; impls/common/online_softmax.cuh.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/plain_problem.h"
#include "impls/common/online_softmax.cuh"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

struct Params {
  TensorView q;     // [B, H, M, D]
  TensorView k;     // [B, H_kv, N, D]
  TensorView out;   // [B, H, N]
  float* lse_log2;  // [B, H, M]
  AttentionMask mask;
  std::int64_t H;
  std::int64_t group;  // query heads per key head
  std::int64_t D;
  float scale_log2;  // scores are in base 2
  Reduction reduction;
  MeanOver mean_over;
};

/// The score of query m on key n, heads bh of the query and its key head.
template <class T>
__device__ float score(const Params& p, std::int64_t bh, std::int64_t m, std::int64_t n) {
  const std::int64_t b = bh / p.H;
  const std::int64_t h = bh % p.H;
  const T* q = static_cast<const T*>(p.q.data) + p.q.offset(b, h, m);
  const T* k = static_cast<const T*>(p.k.data) + p.k.offset(b, h / p.group, n);
  float dot = 0;
  for (std::int64_t d = 0; d < p.D; ++d)
    dot = fmaf(to_float(q[d * p.q.strides[3]]), to_float(k[d * p.k.strides[3]]), dot);
  return dot * p.scale_log2;
}

/// Pass 1: lse_log2 of the query that is the CTA.
template <class T>
__global__ void __launch_bounds__(kThreads) normalise_rows(const Params p) {
  __shared__ float scratch[kWarps];
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t bh = blockIdx.x / p.mask.M;
  const std::int64_t m = blockIdx.x % p.mask.M;
  OnlineSoftmax row;
  for (std::int64_t n = p.mask.key_begin(m) + thread; n < p.mask.key_end(m); n += kThreads) {
    const float scores[1] = {score<T>(p, bh, m, n)};
    row.absorb(scores);
  }
  // Every thread's sum is counted from its own maximum: first brought to the common one.
  OnlineSoftmax all;
  all.max = cta_reduce<kWarps>(row.max, Max{}, scratch, thread);
  const float own = row.sum * exp2_approx(row.max - all.origin());
  all.sum = cta_reduce<kWarps>(own, Sum{}, scratch, thread);
  if (thread == 0) p.lse_log2[blockIdx.x] = all.lse_log2();
}

/// What the total of key n is divided by.
__device__ float divisor_of(const Params& p, std::int64_t n) {
  if (p.reduction != Reduction::kMean) return 1.0f;
  const std::int64_t seen = p.mask.query_end(n) - p.mask.query_begin(n);
  const std::int64_t count = p.mean_over == MeanOver::kAll ? p.mask.M : seen;
  return static_cast<float>(count > 0 ? count : 1);
}

/// Pass 2: the key that is the thread. grid.x = heads x ctas_a_head.
template <class T>
__global__ void __launch_bounds__(kThreads) reduce_columns(const Params p, unsigned ctas_a_head) {
  const std::int64_t bh = blockIdx.x / ctas_a_head;
  const std::int64_t n =
      static_cast<std::int64_t>(blockIdx.x % ctas_a_head) * kThreads + threadIdx.x;
  if (n >= p.mask.N) return;
  float column = 0;
  for (std::int64_t m = p.mask.query_begin(n); m < p.mask.query_end(n); ++m) {
    const float weight = exp2_approx(score<T>(p, bh, m, n) - p.lse_log2[bh * p.mask.M + m]);
    column = p.reduction == Reduction::kMax ? MaxOrNan{}(column, weight) : column + weight;
  }
  store_rounded(p.out.data, p.out.dtype, p.out.offset(bh / p.H, bh % p.H, n),
                column / divisor_of(p, n));
}

std::int64_t ctas_a_head(const Problem& p) { return (p.N + kThreads - 1) / kThreads; }

Support supports(const Problem& p, const DeviceInfo&) {
  constexpr std::int64_t kMaxGrid = std::numeric_limits<std::int32_t>::max();
  if (Support plain = takes_plain_only(p); !plain) return plain;
  if (p.B * p.H > kMaxGrid / p.M) return Support::no("B * H * M must be below 2^31");
  if (p.B * p.H > kMaxGrid / ctas_a_head(p))
    return Support::no("B * H * ceil(N / 128) must be below 2^31");
  return Support::yes();
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo&) {
  return static_cast<std::size_t>(p.B * p.H * p.M) * sizeof(float);
}

Launch plan(const Problem& p,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo&) {
  const Params params{.q = tensors.q,
                      .k = tensors.k,
                      .out = tensors.out,
                      .lse_log2 = static_cast<float*>(workspace.data),
                      .mask = p.attention_mask(),
                      .H = p.H,
                      .group = p.H / p.key_heads(),
                      .D = p.D,
                      .scale_log2 = static_cast<float>(p.scale_value() * kLog2E),
                      .reduction = p.reduction,
                      .mean_over = p.mean_over};
  const auto row_ctas = static_cast<unsigned>(p.B * p.H * p.M);
  const auto head_ctas = static_cast<unsigned>(ctas_a_head(p));
  const auto column_ctas = static_cast<unsigned>(p.B * p.H) * head_ctas;
  return with_element_type(p.dtype, [&]<class T>(std::type_identity<T>) -> Launch {
    const auto rows = normalise_rows<T>;
    const auto columns = reduce_columns<T>;
    return {.enqueue =
                [=](Stream stream) {
                  const auto handle = static_cast<cudaStream_t>(stream.handle);
                  rows<<<row_ctas, kThreads, 0, handle>>>(params);
                  CUDA_CHECK_LAUNCH();
                  columns<<<column_ctas, kThreads, 0, handle>>>(params, head_ctas);
                  CUDA_CHECK_LAUNCH();
                },
            .kernels = {{reinterpret_cast<const void*>(rows), 0, kThreads},
                        {reinterpret_cast<const void*>(columns), 0, kThreads}}};
  });
}

}  // namespace

extern const Backend<ColReduce> new_backend;
constinit const Backend<ColReduce> new_backend = {
    .info = {.id = "new_backend",
             .summary = "a dot product at a time on CUDA cores",
             .memory = MemorySpace::kDevice,
             .math = "exact products, fp32 FMA, ex2.approx",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
