// Arguments and kernels of bulk_sm90: one file instantiates those of a type.
#pragma once

#include "impls/attnres_phase1_bwd/bulk_layout.h"

namespace attn::attnres_phase1_bwd {

struct BulkArguments {
  attnres::Planes v;   // N planes [tokens, D]
  const void* wt;      // [S, D]
  const void* dout;    // [S, tokens, D]
  const float* dlse;   // [S, tokens], or null
  attnres::Planes dv;  // N planes [tokens, D]
  float* partials;     // [clusters, S, 2, groups, 4]: split shares of the queries' gradient
  std::int64_t tokens;
  int N, S, D;
  float eps;
  float inverse_width;  // 1 / D
  int ranks, ranks_log2;
  int stages;
  int warps;  // that find gradients
  WeightLanes lanes;
  int held_rows;                            // of a stage
  std::int8_t held_source[kLayoutSources];  // of each
  std::int8_t held_row[kLayoutSources];     // of each source; -1 where nothing is added to
  BulkMemory memory;
};

/// Where the gradient of a source goes: in shared memory, for lanes that differ in their source.
struct alignas(16) SourceOutput {
  void* row;  // of token 0, at the CTA's first column
  int held;   // of a stage: the byte where what is added to begins; -1 where nothing is
};

using BulkKernel = void (*)(BulkArguments);

BulkKernel bulk_kernel_f16(const BulkLayout& layout);
BulkKernel bulk_kernel_bf16(const BulkLayout& layout);

}  // namespace attn::attnres_phase1_bwd
