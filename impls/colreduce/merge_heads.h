// The merge of columns that several CTAs have reduced over some of an output's query heads each.
#pragma once

#include <cstdint>

#include "harness/core/backend.h"

namespace attn::colreduce {

/// out[i] = sum, or maximum, over the parts of part_columns[part, i], in their order; rounded once.
void enqueue_merge_heads(const float* part_columns,  // [parts, columns]
                         void* out,                  // [columns]
                         DType out_dtype,
                         int parts,
                         std::int64_t columns,
                         bool is_max,
                         Stream stream);

/// The kernel behind it, for a launch's report.
KernelUse merge_heads_use();

}  // namespace attn::colreduce
