// How many 16-bit numbers hold an element of a query.
#pragma once

#include "harness/core/dtype.h"

namespace attn::attnres {

/// Rows of the sources' type that hold a query: 1 of the same type; 3 in bf16, which together have more
/// than the 24 bits of fp32; 0 where the queries do not fit that type's exponents or precision.
constexpr int query_terms(DType queries, DType sources) {
  if (queries == sources) return 1;
  return queries == DType::kF32 && sources == DType::kBF16 ? 3 : 0;
}

}  // namespace attn::attnres
