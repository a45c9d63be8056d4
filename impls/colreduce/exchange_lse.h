// Between the lse that a caller gives or asks for and the one that the passes work with.
#pragma once

#include <cstdint>
#include <vector>

#include "harness/core/backend.h"
#include "impls/colreduce/mma_sequences.h"

namespace attn::colreduce {

/// The lse of one launch's sequences in both forms.
struct LseExchange {
  float* tensor = nullptr;        // [B, H, M], natural logarithm
  std::int64_t batch_stride = 0;  // of the tensor, elements
  std::int64_t head_stride = 0;
  float* lse_log2 = nullptr;  // of the contributing queries alone (PassSequence::lse_offset)
  std::uint32_t H = 1;
  SequenceList sequences;  // of whose batches each head is an item
};

/// The exchange for a problem, cut into launches.
std::vector<LseExchange> lse_exchanges(const ColReduce::Problem&,
                                       const std::vector<PassSequence>&,
                                       const TensorView& lse,
                                       float* lse_log2);

/// lse_log2 from the tensor; +inf, which gives weight 0, for an infinite one.
void enqueue_read_lse(const LseExchange&, Stream);
/// The tensor from lse_log2, of the contributing queries; -inf for a query without weight.
void enqueue_write_lse(const LseExchange&, Stream);
/// -inf for all `count` numbers of a tensor, where queries do not contribute.
void enqueue_clear_lse(float* tensor, std::int64_t count, Stream);

/// The kernels behind them, for a launch's report.
KernelUse read_lse_use();
KernelUse write_lse_use();

}  // namespace attn::colreduce
