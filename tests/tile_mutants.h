// The mutants that are about tiles and their edges once more, as kernels on a GPU.
#pragma once

#include <array>
#include <span>

#include "reference/colreduce/contract.h"
#include "tests/mutants.h"

namespace attn {

/// The right kernel first.
inline constexpr std::array kTileMutations = {
    Mutation::kNone,          Mutation::kTileMissing,           Mutation::kTileTwice,
    Mutation::kNoRescale,     Mutation::kLastTileNotNormalised, Mutation::kPaddingNormalised,
    Mutation::kLastQueryLost, Mutation::kLastColumnUnwritten,
};

/// The column reduction with kTileMutations as its backends, in this order.
struct TileMutants : ColReduce {
  static std::span<const BackendSlot<TileMutants>> backends();
};

}  // namespace attn
