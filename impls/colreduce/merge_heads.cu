// The merge of columns that were combined over parts of the heads: one thread a column.
#include "harness/core/cuda_check.h"
#include "impls/colreduce/merge_heads.h"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) merge_heads(const HeadParts args) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= args.elements) return;
  float whole = args.parts[i];
  for (int part = 1; part < args.count; ++part) {
    const float next = args.parts[part * args.elements + i];
    whole = args.max ? MaxOrNan{}(whole, next) : whole + next;
  }
  store_rounded(args.out, args.out_dtype, i, whole);
}

}  // namespace

void enqueue_merge_heads(const HeadParts& parts, Stream stream) {
  const auto ctas = static_cast<unsigned>((parts.elements + kThreads - 1) / kThreads);
  merge_heads<<<ctas, kThreads, 0, static_cast<cudaStream_t>(stream.handle)>>>(parts);
  CUDA_CHECK_LAUNCH();
}

KernelUse merge_heads_use() { return {reinterpret_cast<const void*>(&merge_heads), 0, kThreads}; }

}  // namespace attn::colreduce
