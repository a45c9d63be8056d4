// The lse tensor of a problem and the scratch lse of the wgmma passes: one thread a query.
#include <algorithm>
#include <cmath>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/lse_tensor.h"
#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {
namespace {

constexpr int kThreads = 256;

/// grid: (sequences x heads, CTAs that share a head's rows).
template <bool kReturn>
__global__ void __launch_bounds__(kThreads) convert_lse(const __grid_constant__ LseRows rows) {
  const std::int64_t index = blockIdx.x / rows.H;
  const std::int64_t h = blockIdx.x - index * rows.H;
  const WgmmaSequence& sequence = rows.sequences ? rows.sequences[index] : rows.whole;
  const std::int64_t head = (rows.sequences ? sequence.batch : index) * rows.H + h;
  float* tensor = rows.tensor + head * rows.M + sequence.q_first;
  float* lse_log2 = rows.lse_log2 + head * rows.pitch + sequence.lse_first;
  const std::int64_t step = std::int64_t{gridDim.y} * kThreads;
  for (std::int64_t m = std::int64_t{blockIdx.y} * kThreads + threadIdx.x; m < sequence.mask.M;
       m += step) {
    if constexpr (kReturn) {
      const float own = lse_log2[m];
      tensor[m] = own == INFINITY ? -INFINITY : own * static_cast<float>(1 / kLog2E);
    } else {
      const float given = tensor[m];
      lse_log2[m] = isinf(given) ? INFINITY : given * static_cast<float>(kLog2E);
    }
  }
}

template <bool kReturn>
void enqueue_convert(const LseRows& rows, Stream stream) {
  constexpr std::int64_t kMostCtas = 65535;  // of grid.y
  const std::int64_t ctas = std::min((rows.queries + kThreads - 1) / kThreads, kMostCtas);
  const dim3 grid(static_cast<unsigned>(rows.count * rows.H), static_cast<unsigned>(ctas));
  convert_lse<kReturn><<<grid, kThreads, 0, static_cast<cudaStream_t>(stream.handle)>>>(rows);
  CUDA_CHECK_LAUNCH();
}

}  // namespace

void enqueue_take_lse(const LseRows& rows, Stream stream) { enqueue_convert<false>(rows, stream); }
void enqueue_return_lse(const LseRows& rows, Stream stream) { enqueue_convert<true>(rows, stream); }

KernelUse take_lse_use() {
  return {reinterpret_cast<const void*>(&convert_lse<false>), 0, kThreads};
}
KernelUse return_lse_use() {
  return {reinterpret_cast<const void*>(&convert_lse<true>), 0, kThreads};
}

}  // namespace attn::colreduce
