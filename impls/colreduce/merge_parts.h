// The merge of normalisers that were computed over parts of the keys.
#pragma once

#include <cstdint>

#include "harness/core/backend.h"

namespace attn::colreduce {

/// lse_log2[i] = log2 of the sum over the parts of 2^part_lse[part, i]. Parts without weight are
/// -inf; a query without weight in any becomes +inf, which gives it weight 0 in pass 2.
void enqueue_merge_parts(const float* part_lse,  // [parts, queries], log2
                         float* lse_log2,        // [queries]
                         int parts,
                         std::int64_t queries,
                         Stream stream);

/// The kernel behind it, for a launch's report.
KernelUse merge_parts_use();

}  // namespace attn::colreduce
