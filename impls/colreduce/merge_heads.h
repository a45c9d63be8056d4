// The merge of columns that were combined over parts of the heads.
#pragma once

#include <cstdint>

#include "harness/core/backend.h"

namespace attn::colreduce {

/// out[i] = the sum, or the maximum, of parts[part, i] over the parts in order; rounded once.
struct HeadParts {
  float* parts = nullptr;  // [count, elements]
  int count = 1;
  std::int64_t elements = 0;
  bool max = false;
  void* out = nullptr;  // [elements]
  DType out_dtype = DType::kF32;
};
void enqueue_merge_heads(const HeadParts&, Stream);

/// The kernel behind it, for a launch's report.
KernelUse merge_heads_use();

}  // namespace attn::colreduce
