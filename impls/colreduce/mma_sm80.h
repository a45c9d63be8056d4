// The two tensor-core passes of the column reduction as host code sees them: what a pass is given,
// and how a backend binds one to a problem. mma_sm80.cu and split_k.cu are built from these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "harness/core/backend.h"
#include "reference/attention_mask.h"
#include "reference/colreduce/contract.h"

namespace attn::colreduce {

/// One of q and k as a pass reads it. Strides count elements.
struct PassOperand {
  const void* data = nullptr;  // [B, heads, rows, D], D contiguous
  std::int64_t batch_stride = 0;
  std::int64_t head_stride = 0;
  std::int64_t row_stride = 0;
  int rows = 0;
  std::uint32_t sharing = 1;  ///< query heads that read the same head of this operand
};

/// How a column's sum becomes its output.
enum class Divisor : std::uint8_t { kOne, kVisible, kAll };

inline Divisor divisor_of(const ColReduce::Problem& problem) {
  if (problem.reduction != Reduction::kMean) return Divisor::kOne;
  return problem.mean_over == MeanOver::kVisible ? Divisor::kVisible : Divisor::kAll;
}

struct PassArguments {
  PassOperand stationary;
  PassOperand stream;
  AttentionMask mask;
  int D = 8;
  std::uint32_t H = 1;        ///< query heads
  std::uint32_t heads = 1;    ///< B * H
  std::uint32_t tiles = 1;    ///< stationary tiles a head
  std::uint32_t splits = 1;   ///< parts of the streamed axis, each an item of its own
  std::uint32_t items = 1;    ///< heads * splits * tiles
  bool backwards = false;     ///< take heads and tiles from the last to the first
  float scale_log2 = 1;       ///< |scale| * log2(e)
  bool negate = false;        ///< the scale is negative: the stationary operand changes its sign
  float* lse_log2 = nullptr;  // [splits, B, H, M]; a row pass writes it, a column pass reads it
  float lse_without_key = 0;  ///< what a row pass writes for a row without weight
  void* out = nullptr;        // [B, H, N], column pass only
  DType out_dtype = DType::kF32;
  Divisor divisor = Divisor::kOne;
};

/// One instantiation of the streaming kernel and how it wants to be launched.
struct PassKernel {
  const void* function = nullptr;
  int threads = 0;
  int shared_bytes = 0;
  int rows = 0;         ///< of the stationary tile
  int stream_rows = 0;  ///< of a streamed tile
  int stages = 0;
  int ctas_per_sm = 1;  ///< that registers and shared memory allow on sm_80 and sm_90
};

/// The kernel of a pass for D components, at most 256. Dtypes are f16 and bf16.
PassKernel row_pass_kernel(DType dtype, std::int64_t D, bool narrow);
PassKernel column_pass_kernel(DType dtype, std::int64_t D, bool is_max);
PassKernel few_queries_pass_kernel(DType dtype, std::int64_t D, bool is_max);

/// A kernel bound to its arguments and grid.
struct PassLaunch {
  PassKernel kernel;
  PassArguments arguments;
  unsigned ctas = 1;

  void enqueue(Stream stream) const;
  KernelUse use() const { return {kernel.function, static_cast<std::size_t>(kernel.shared_bytes)}; }
};

/// What both backends take: f16 and bf16, D a multiple of 8 up to 256, rows that start at multiples
/// of 16 bytes, sm_80 and up.
Support mma_supports(const ColReduce::Problem&, const DeviceInfo&);

/// 4 B H M: the lse of every query.
std::size_t mma_workspace_bytes(const ColReduce::Problem&, const DeviceInfo&);

/// Pass 1, queries stationary: lse_log2[split, b, h, m] over the keys of each of `splits` parts. A
/// query without weight in its part gets +inf, so that pass 2 gives it weight 0, or -inf when there
/// are several parts to merge. `narrow` takes stationary tiles of 64 queries instead of 128.
PassLaunch bind_row_pass(const ColReduce::Problem&,
                         const ColReduce::Tensors&,
                         float* lse_log2,
                         bool narrow,
                         int splits,
                         const DeviceInfo&);

/// Pass 2: the reduction over the queries, from lse_log2[b, h, m]. Keys stationary; where one tile
/// holds all queries of a head, queries stationary and the keys cut into as many parts as pay.
PassLaunch bind_column_pass(const ColReduce::Problem&,
                            const ColReduce::Tensors&,
                            float* lse_log2,
                            const DeviceInfo&);

/// "rows 128x64, columns 128x64, 4 stages": stationary by streamed rows of each pass's tiles.
std::string tile_note(const PassLaunch& row_pass, const PassLaunch& column_pass);

}  // namespace attn::colreduce
