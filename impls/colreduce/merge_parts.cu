// The merge of normalisers that were computed over parts of the keys: one thread a query.
#include "harness/core/cuda_check.h"
#include "impls/colreduce/merge_parts.h"
#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {
namespace {

constexpr int kMergeThreads = 256;

__global__ void __launch_bounds__(kMergeThreads)
    merge_parts(const float* part_lse,  // [parts, queries], log2
                float* lse_log2,        // [queries]
                int parts,
                std::int64_t queries) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kMergeThreads + threadIdx.x;
  if (i >= queries) return;
  OnlineSoftmax whole;
  for (int part = 0; part < parts; ++part) {
    const float score[1] = {part_lse[part * queries + i]};
    whole.absorb(score);
  }
  lse_log2[i] = whole.lse_log2();
}

}  // namespace

void enqueue_merge_parts(
    const float* part_lse, float* lse_log2, int parts, std::int64_t queries, Stream stream) {
  const auto ctas = static_cast<unsigned>((queries + kMergeThreads - 1) / kMergeThreads);
  merge_parts<<<ctas, kMergeThreads, 0, static_cast<cudaStream_t>(stream.handle)>>>(
      part_lse, lse_log2, parts, queries);
  CUDA_CHECK_LAUNCH();
}

KernelUse merge_parts_use() {
  return {reinterpret_cast<const void*>(&merge_parts), 0, kMergeThreads};
}

}  // namespace attn::colreduce
