// How a kernel reaches the rows of a token.
#pragma once

#include <cstdint>

#include "harness/core/tensor_view.h"

namespace attn::attnres {

/// 16-byte vectors in shared memory, 16-byte vectors in global memory, or one element at a time, for
/// widths and addresses that are no multiple of a vector.
enum class Rows : std::uint8_t { kStaged, kDirect, kSingle };

/// A dense tensor of rows [tokens, D].
struct RowsOf {
  void* data;  ///< null: there is none
  DType dtype;
};
inline RowsOf rows_of(const TensorView& view) { return {view.data, view.dtype}; }

}  // namespace attn::attnres
