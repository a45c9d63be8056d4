// How a kernel reaches the rows of a token.
#pragma once

#include <cstdint>

namespace attn::attnres {

/// 16-byte vectors in shared memory, 16-byte vectors in global memory, or one element at a time, for
/// widths and addresses that are no multiple of a vector.
enum class Rows : std::uint8_t { kStaged, kDirect, kSingle };

}  // namespace attn::attnres
