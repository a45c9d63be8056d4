// Bulk copies from global to shared memory by the copy engine, one instruction a function.
// Source: PTX ISA, "Data Movement and Conversion Instructions: Bulk copy, Tensor copy" (sm_90).
#pragma once

#include <cuda.h>

#include <cstdint>

namespace attn::sm90 {

/// Fetches a tensor map ahead of its first use. PTX ISA, "prefetch".
__device__ inline void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// Copies the box at (c0, c1, c2, c3), innermost first, of a rank-4 tensor map to shared memory and
/// completes its bytes at the barrier. Elements outside the tensor arrive as zeros and count too.
/// One thread calls it. The target is aligned to 1024 bytes where the map swizzles by 128.
__device__ inline void tma_load_4d(std::uint32_t to_shared,
                                   const CUtensorMap* map,
                                   std::uint32_t barrier,
                                   int c0,
                                   int c1,
                                   int c2,
                                   int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6}], [%2];"  // PTX ISA, "cp.async.bulk.tensor"
      ::"r"(to_shared),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

/// Brings the box that tma_load_4d would copy into L2. PTX ISA, "cp.async.bulk.prefetch.tensor".
__device__ inline void tma_prefetch_4d(const CUtensorMap* map, int c0, int c1, int c2, int c3) {
  asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global [%0, {%1, %2, %3, %4}];" ::"l"(map),
               "r"(c0), "r"(c1), "r"(c2), "r"(c3)
               : "memory");
}

/// Copies `bytes` contiguous bytes, a multiple of 16 at multiples of 16, and completes them at the
/// barrier. One thread calls it. PTX ISA, "cp.async.bulk".
__device__ inline void bulk_load(std::uint32_t to_shared,
                                 const void* from_global,
                                 std::uint32_t bytes,
                                 std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to_shared),
      "l"(__cvta_generic_to_global(from_global)), "r"(bytes), "r"(barrier)
      : "memory");
}

}  // namespace attn::sm90
