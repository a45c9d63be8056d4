// Tile sizes of the tensor-core passes, per zero-padded head dimension. They decide speed only.
#pragma once

#include <cstdint>
#include <type_traits>

#include "impls/colreduce/mma_pipeline.cuh"
#include "impls/colreduce/padded_dimension.h"

namespace attn::colreduce {

// Sixteen warps of at most 128 registers an SM: four for each scheduler, so that one warp's
// exponentials run under another's products. A warp holds 32 rows (16 at D = 256) because a B
// fragment from shared memory then feeds two products: 128 bytes each, of which an SM's shared
// memory delivers as many as its tensor cores take. Wide tiles: four CTAs of four warps, which wait
// for each other less than two CTAs of eight (README.md, "policies").
// D, m16 tiles a warp, row warps, column warps, streamed rows, chunk, stages, CTAs an SM:
template <int kD>
struct WidePolicy;  // stationary tiles of 128 rows
template <>
struct WidePolicy<64> : MmaPolicy<64, 2, 4, 1, 32, 16, 6, 4> {};
template <>
struct WidePolicy<128> : MmaPolicy<128, 2, 4, 1, 64, 32, 3, 4> {};
template <>
struct WidePolicy<256> : MmaPolicy<256, 1, 8, 1, 32, 32, 4, 2> {};

template <int kD>
struct NarrowPolicy;  // stationary tiles of 64 rows, for few queries
template <>
struct NarrowPolicy<64> : MmaPolicy<64, 2, 2, 4, 64, 16, 4, 2> {};
template <>
struct NarrowPolicy<128> : MmaPolicy<128, 2, 2, 4, 64, 16, 4, 2> {};
template <>
struct NarrowPolicy<256> : MmaPolicy<256, 1, 4, 2, 32, 16, 4, 2> {};

template <class Element, class Policy, class Pass>
PassKernel pass_kernel_of() {
  return {.function = reinterpret_cast<const void*>(&stream_pass<Element, Policy, Pass>),
          .threads = Policy::kThreads,
          .shared_bytes = Pass::kSharedBytes,
          .rows = Policy::kRows,
          .stream_rows = Policy::kStreamRows,
          .stages = Policy::kStages,
          .ctas_per_sm = Policy::kCtasPerSm,
          .options = std::is_same_v<typename Pass::Arguments, PassOptions>};
}

template <class Policy, class Pass>
PassKernel pass_kernel(DType dtype) {
  return dtype == DType::kF16 ? pass_kernel_of<__half, Policy, Pass>()
                              : pass_kernel_of<__nv_bfloat16, Policy, Pass>();
}

}  // namespace attn::colreduce
