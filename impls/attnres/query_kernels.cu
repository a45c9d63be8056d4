// Queries as split fp32 rows, and the sum of gradients' shares.
#include "harness/core/cuda_check.h"
#include "impls/attnres/query_kernels.cuh"

namespace attn::attnres {
namespace {

__global__ void split_queries_kernel(ReadArguments p, int count, float* to) {
  split_queries(p, count, to, static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x),
                static_cast<int>(gridDim.x * blockDim.x));
}

constexpr int kSumWarps = 16;

/// 32 columns a CTA: each warp adds a range of the partials in order, then the ranges are added in order.
__global__ void __launch_bounds__(32 * kSumWarps) sum_partials_kernel(
    const float* partials, int count, int S, int D, int pitch, bool add, float* dwt) {
  __shared__ float ranges[kSumWarps][32];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int element = static_cast<int>(blockIdx.x) * 32 + lane;
  const std::int64_t elements = static_cast<std::int64_t>(S) * pitch;
  const int at = element % pitch;  // in a split row: half, group, column of four
  const int half = at / (pitch / 2);
  const int column = (at % (pitch / 2)) / 4 * kColumns + half * 4 + at % 4;
  const bool exists = element < elements && column < D;
  float sum = 0;
  if (exists) {
#pragma unroll 8
    for (int i = warp * count / kSumWarps; i < (warp + 1) * count / kSumWarps; ++i)
      sum += partials[i * elements + element];
  }
  ranges[warp][lane] = sum;
  __syncthreads();  // all warps: every range is there
  if (warp != 0 || !exists) return;
  float* to = dwt + static_cast<std::int64_t>(element / pitch) * D + column;
  float total = add ? *to : 0.0f;
  for (int i = 0; i < kSumWarps; ++i) total += ranges[i][lane];
  *to = total;
}

}  // namespace

void enqueue_split(const ReadArguments& p, int count, float* to, cudaStream_t stream) {
  constexpr int kThreads = 256;
  split_queries_kernel<<<(count * p.groups + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
      p, count, to);
  CUDA_CHECK_LAUNCH();
}

void enqueue_sum(const float* partials,
                 int count,
                 std::int64_t S,
                 std::int64_t D,
                 Store store,
                 float* dwt,
                 cudaStream_t stream) {
  const int pitch = static_cast<int>((D + kColumns - 1) / kColumns * kColumns);
  const auto ctas = static_cast<unsigned>((S * pitch + 31) / 32);
  sum_partials_kernel<<<ctas, 32 * kSumWarps, 0, stream>>>(
      partials, count, static_cast<int>(S), static_cast<int>(D), pitch, store == Store::kAdd, dwt);
  CUDA_CHECK_LAUNCH();
}

}  // namespace attn::attnres
