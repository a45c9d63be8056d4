// The two tensor-core passes of the column reduction as host code sees them: what a pass is given,
// and how a backend binds them to a problem. mma_sm80.cu and split_k.cu are built from these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "harness/core/backend.h"
#include "impls/colreduce/mma_sequences.h"
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

/// What the kernels with options are given besides. Their strides are those of the tensors, their
/// rows, mask and tiles those of each sequence.
struct PassOptions : PassArguments {
  float cap_log2 = 0;             ///< soft cap of the scores, in base 2; 0: none
  float cap_scale = 0;            ///< what tanh takes of a dot product
  std::uint32_t slices = 1;       ///< items of a batch for each tile and split: groups of heads
  std::uint32_t combined = 1;     ///< query heads of an output head
  std::uint32_t slice_heads = 1;  ///< of these, those that an item combines; the last item the rest
  std::uint32_t head_parts = 1;   ///< items that an output head is made of
  bool max_over_heads = false;    ///< else their sum
  float averaged = 1;             ///< heads that a mean over heads divides by
  std::int64_t lse_rows = 0;      ///< of all sequences and heads: the pitch of a row pass's parts
  std::int64_t out_pitch = 0;     ///< columns of a head of the output
  std::int64_t out_part = 0;      ///< elements of the output: the pitch of parts of heads
  SequenceList sequences;
};
static_assert(sizeof(PassOptions) <= 4096, "kernel parameters hold 4 KiB before CUDA 12.1");

template <bool kOptions>
using PassArgumentsOf = std::conditional_t<kOptions, PassOptions, PassArguments>;

/// One instantiation of the streaming kernel and how it wants to be launched.
struct PassKernel {
  const void* function = nullptr;
  int threads = 0;
  int shared_bytes = 0;
  int rows = 0;         ///< of the stationary tile
  int stream_rows = 0;  ///< of a streamed tile
  int stages = 0;
  int ctas_per_sm = 1;   ///< that registers and shared memory allow on sm_80 and sm_90
  bool options = false;  ///< takes PassOptions, else PassArguments
};

/// The kernel of a pass for D components, at most 256. Dtypes are f16 and bf16.
PassKernel row_pass_kernel(DType dtype, std::int64_t D, bool narrow);
PassKernel column_pass_kernel(DType dtype, std::int64_t D, bool is_max);
PassKernel few_queries_pass_kernel(DType dtype, std::int64_t D, bool is_max);
/// The same that take PassOptions.
PassKernel row_options_kernel(DType dtype, std::int64_t D, bool narrow);
PassKernel column_options_kernel(DType dtype, std::int64_t D, bool is_max);

/// What both backends take: f16 and bf16, D a multiple of 8 up to 256, rows that start at multiples
/// of 16 bytes, sm_80 and up; every option.
Support mma_supports(const ColReduce::Problem&, const DeviceInfo&);

/// 4 bytes for each contributing query, its lse; and where parts of the heads are combined by
/// several CTAs, an fp32 output for each part.
std::size_t mma_workspace_bytes(const ColReduce::Problem&, const DeviceInfo&);

/// How pass 1 cuts its work.
struct RowPassChoice {
  bool narrow = false;  ///< stationary tiles of 64 queries instead of 128
  int splits = 1;       ///< parts of the keys, of which each leaves its lse in the output buffer
};

/// Both passes, bound to a problem and its pass_sequences. Where the lse is given, pass 2 alone.
Launch plan_passes(const ColReduce::Problem&,
                   const std::vector<PassSequence>&,
                   const ColReduce::Tensors&,
                   Workspace,
                   const DeviceInfo&,
                   const RowPassChoice&);

}  // namespace attn::colreduce
