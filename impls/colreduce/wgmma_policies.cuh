// Tile sizes of the wgmma passes, per zero-padded head dimension. They decide speed only.
#pragma once

#include <cstdint>

#include "impls/colreduce/padded_dimension.h"
#include "impls/colreduce/wgmma_pipeline.cuh"

namespace attn::colreduce {

// Four warpgroups of at most 128 registers: four warps a scheduler, so that one warp's exponentials
// run under another's products. At D = 256 the stationary rows alone take 64 registers.
// D, streamed rows, stages, chunk, accumulators, tiles a run, in turns:
template <int kD>
struct WgmmaTilePolicy;
template <>
struct WgmmaTilePolicy<64> : WgmmaPolicy<64, wgmma_stream_rows(64), 8, 128, 1, 1, true> {};
template <>
struct WgmmaTilePolicy<96> : WgmmaPolicy<96, wgmma_stream_rows(96), 4, 128, 1, 1, true> {};
template <>
struct WgmmaTilePolicy<128> : WgmmaPolicy<128, wgmma_stream_rows(128), 4, 128, 1, 1, true> {};
template <>
struct WgmmaTilePolicy<256> : WgmmaPolicy<256, wgmma_stream_rows(256), 3, 64, 1, 1, true> {};

// Two accumulators of half a tile are faster, but in rows at D = 128 (README.md, "wgmma_sm90"; at D = 96 nobody
// has measured rows with two); at D = 256 there are no registers for them.
template <int kD>
struct WgmmaRowPolicy : WgmmaTilePolicy<kD> {};
template <>
struct WgmmaRowPolicy<64> : WgmmaPolicy<64, wgmma_stream_rows(64), 8, 64, 2, 1, true> {};

template <int kD>
struct WgmmaColumnPolicy : WgmmaRowPolicy<kD> {};
template <>
struct WgmmaColumnPolicy<96> : WgmmaPolicy<96, wgmma_stream_rows(96), 4, 64, 2, 1, true> {};
template <>
struct WgmmaColumnPolicy<128> : WgmmaPolicy<128, wgmma_stream_rows(128), 4, 64, 2, 1, true> {};

template <class Element, class Policy, class Pass>
WgmmaKernel wgmma_kernel_of() {
  return {.function = reinterpret_cast<const void*>(&wgmma_pass<Element, Policy, Pass>),
          .threads = Policy::kThreads,
          .shared_bytes = WgmmaLayout<Policy, Pass>::kBytes,
          .stream_rows = Policy::kStreamRows,
          .stages = Policy::kStages};
}

template <class Policy, class Pass>
WgmmaKernel wgmma_kernel(DType dtype) {
  return dtype == DType::kF16 ? wgmma_kernel_of<__half, Policy, Pass>()
                              : wgmma_kernel_of<__nv_bfloat16, Policy, Pass>();
}

}  // namespace attn::colreduce
