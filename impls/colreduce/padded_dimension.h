// The head dimensions that tensor-core kernels are instantiated for: D is zero-padded to one of them.
#pragma once

#include <cstdint>

#include "harness/core/dispatch.h"

namespace attn::colreduce {

/// Calls `function(std::integral_constant<int, kD>{})` for the smallest kD that holds D.
template <class Function>
void dispatch_padded(std::int64_t D, Function&& function) {
  dispatch<64, 128, 256>(D <= 64 ? 64 : D <= 128 ? 128 : 256, function);
}

/// The smallest kD that holds D, at most 256, of kernels whose tiles lie in shared memory in boxes of 64 components,
/// whatever part of the last box their products take.
constexpr int boxed_dimension(std::int64_t D) {
  constexpr int kSizes[] = {64, 96, 128};
  for (const int kD : kSizes)
    if (D <= kD) return kD;
  return 256;
}

/// Calls `function(std::integral_constant<int, kD>{})` for boxed_dimension(D).
template <class Function>
void dispatch_boxed(std::int64_t D, Function&& function) {
  dispatch<64, 96, 128, 256>(boxed_dimension(D), function);
}

}  // namespace attn::colreduce
