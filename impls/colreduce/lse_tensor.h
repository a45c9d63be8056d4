// Between the lse tensor of a problem (natural logarithm, every query) and what the wgmma passes
// keep of it (base 2, contributing queries, each head's padded to multiples of 16 bytes).
#pragma once

#include <cstdint>

#include "harness/core/backend.h"
#include "impls/colreduce/wgmma_sequences.h"

namespace attn::colreduce {

struct LseRows {
  const WgmmaSequence* sequences = nullptr;  // on the device, `count` of them; null: `whole`, in
  WgmmaSequence whole;                       // each of `count` batches
  std::int64_t count = 1;
  std::int64_t H = 1;        ///< query heads
  std::int64_t queries = 1;  ///< most of a sequence
  std::int64_t M = 1;        ///< rows of the tensor
  std::int64_t pitch = 1;    ///< floats from one head to the next in lse_log2
  float* tensor = nullptr;   // [B, H, M]
  float* lse_log2 = nullptr;
};

/// Takes a given lse: lse_log2 of every contributing query. Of a query whose lse is infinite it is
/// +inf, which gives it weight 0.
void enqueue_take_lse(const LseRows& rows, Stream stream);

/// Returns an lse: the tensor's rows of contributing queries; -inf for one without weight.
void enqueue_return_lse(const LseRows& rows, Stream stream);

/// The kernels behind them, for a launch's report.
KernelUse take_lse_use();
KernelUse return_lse_use();

}  // namespace attn::colreduce
