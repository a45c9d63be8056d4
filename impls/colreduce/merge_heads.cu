// The merge of partial columns: one thread a column.
#include "harness/core/cuda_check.h"
#include "impls/colreduce/merge_heads.h"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    merge_heads(const float* part_columns,  // [parts, columns]
                void* out,                  // [columns]
                DType out_dtype,
                int parts,
                std::int64_t columns,
                bool is_max) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= columns) return;
  float whole = 0;  // weights are never negative
  for (int part = 0; part < parts; ++part) {
    const float own = part_columns[part * columns + i];
    whole = is_max ? MaxOrNan{}(whole, own) : whole + own;
  }
  store_rounded(out, out_dtype, i, whole);
}

}  // namespace

void enqueue_merge_heads(const float* part_columns,
                         void* out,
                         DType out_dtype,
                         int parts,
                         std::int64_t columns,
                         bool is_max,
                         Stream stream) {
  const auto ctas = static_cast<unsigned>((columns + kThreads - 1) / kThreads);
  merge_heads<<<ctas, kThreads, 0, static_cast<cudaStream_t>(stream.handle)>>>(
      part_columns, out, out_dtype, parts, columns, is_max);
  CUDA_CHECK_LAUNCH();
}

KernelUse merge_heads_use() { return {reinterpret_cast<const void*>(&merge_heads), 0}; }

}  // namespace attn::colreduce
