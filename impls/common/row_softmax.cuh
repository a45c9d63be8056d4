// Softmax in place over a prefix of each row of a matrix in memory, at the speed of memory: rows of
// up to 4096 vectors are read once and stay in registers, longer ones are read twice.
#pragma once

#include <algorithm>
#include <cstdint>

#include "harness/core/dispatch.h"
#include "impls/common/online_softmax.cuh"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn {

/// Rows of T at `pitch` elements, a whole number of vectors; `data` is 16-byte aligned. Row r is
/// its first end(r) elements; what lies behind is neither read nor written. A row without weight
/// (empty, or every score -inf) becomes 0; NaN or +inf poisons its own row.
template <class RowEnd>
struct SoftmaxRows {
  void* data;
  std::int64_t pitch;
  std::int64_t rows;
  RowEnd end;
};

namespace row_softmax {

inline constexpr int kHeldVectors = 4;  // of a row, in the registers of one thread
inline constexpr int kMaxThreads = 1024;
inline constexpr int kMinCta = 128;

/// kThreads threads a row, the row in registers.
template <class T, int kThreads, class RowEnd>
__global__ void __launch_bounds__(kThreads < kMinCta ? kMinCta : kThreads)
    held(const SoftmaxRows<RowEnd> matrix) {
  constexpr int kWidth = kVectorElements<T>;
  __shared__ float scratch[32];
  const int thread = static_cast<int>(threadIdx.x) % kThreads;
  const std::int64_t rows_per_cta = blockDim.x / kThreads;
  const std::int64_t row = blockIdx.x * rows_per_cta + threadIdx.x / kThreads;
  if (row >= matrix.rows) return;  // whole warps, and only where a warp is a row: no barrier then
  const std::int64_t end = matrix.end(row);
  T* scores = static_cast<T*>(matrix.data) + row * matrix.pitch;

  std::int64_t counts[kHeldVectors];  // elements of each of the thread's vectors
#pragma unroll
  for (int i = 0; i < kHeldVectors; ++i) counts[i] = end - (i * kThreads + thread) * kWidth;
  T* first = scores + thread * kWidth;
  float x[kHeldVectors][kWidth];
  load_prefixes(first, kThreads * kWidth, counts, -INFINITY, x);
  float top = -INFINITY;
#pragma unroll
  for (int i = 0; i < kHeldVectors; ++i) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) top = fmaxf(top, x[i][j]);
  }
  top = cta_reduce<kThreads / 32>(top, Max{}, scratch, thread);
  const float origin = top == -INFINITY ? 0.0f : top;
  constexpr float kToLog2 = static_cast<float>(kLog2E);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kHeldVectors; ++i) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) {
      x[i][j] = exp2_approx((x[i][j] - origin) * kToLog2);
      sum += x[i][j];
    }
  }
  sum = cta_reduce<kThreads / 32>(sum, Sum{}, scratch, thread);
  const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
  for (int i = 0; i < kHeldVectors; ++i) {
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[i][j] *= inverse;
    store_prefix(first + i * kThreads * kWidth, counts[i], x[i]);
  }
}

/// A CTA a row of any length: one reading for maximum and sum, a second for the weights.
template <class T, class RowEnd>
__global__ void __launch_bounds__(kMaxThreads) streamed(const SoftmaxRows<RowEnd> matrix) {
  constexpr int kWidth = kVectorElements<T>;
  __shared__ OnlineSoftmax scratch[kMaxThreads / 32];
  const std::int64_t row = blockIdx.x;
  const std::int64_t end = matrix.end(row);
  T* scores = static_cast<T*>(matrix.data) + row * matrix.pitch;
  const int thread = static_cast<int>(threadIdx.x);
  constexpr float kToLog2 = static_cast<float>(kLog2E);

  OnlineSoftmax total;
  for (std::int64_t n = thread * kWidth; n < end; n += kMaxThreads * kWidth) {
    float x[1][kWidth];
    load_prefixes(scores + n, 0, {end - n}, -INFINITY, x);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) x[0][j] *= kToLog2;
    total.absorb(x[0]);
  }
  total.merge_lanes<32>();
  if (thread % 32 == 0) scratch[thread / 32] = total;
  __syncthreads();  // all threads: every warp's result is visible
  total = scratch[thread % 32];
  total.merge_lanes<32>();

  const float origin = total.origin();
  const float inverse = total.sum == 0.0f ? 0.0f : 1.0f / total.sum;
  for (std::int64_t n = thread * kWidth; n < end; n += kMaxThreads * kWidth) {
    float x[1][kWidth];
    load_prefixes(scores + n, 0, {end - n}, -INFINITY, x);
#pragma unroll
    for (int j = 0; j < kWidth; ++j)
      x[0][j] = exp2_approx(fmaf(x[0][j], kToLog2, -origin)) * inverse;
    store_prefix(scores + n, end - n, x[0]);
  }
}

}  // namespace row_softmax

/// The kernel for rows of up to `pitch` elements, and how to launch it.
template <class RowEnd>
struct RowSoftmaxKernel {
  void (*function)(SoftmaxRows<RowEnd>);
  int threads;
  int rows_per_cta;

  std::int64_t ctas(std::int64_t rows) const { return (rows + rows_per_cta - 1) / rows_per_cta; }
};

template <class T, class RowEnd>
RowSoftmaxKernel<RowEnd> row_softmax_kernel(std::int64_t pitch) {
  using namespace row_softmax;
  const std::int64_t threads = (pitch / kVectorElements<T> + kHeldVectors - 1) / kHeldVectors;
  RowSoftmaxKernel<RowEnd> kernel{streamed<T, RowEnd>, kMaxThreads, 1};
  if (threads > kMaxThreads) return kernel;
  dispatch<32, 128, 512, 1024>(threads <= 32    ? 32
                               : threads <= 128 ? 128
                               : threads <= 512 ? 512
                                                : 1024,
                               [&](auto count) {
                                 constexpr int kThreads = decltype(count)::value;
                                 const int cta = std::max(kThreads, kMinCta);
                                 kernel = {held<T, kThreads, RowEnd>, cta, cta / kThreads};
                               });
  return kernel;
}

}  // namespace attn
