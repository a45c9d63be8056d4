// Named barriers of a CTA: some of its warps meet, the others go on.
// Source: PTX ISA, "Parallel Synchronization and Communication Instructions: barrier".
#pragma once

namespace attn::sm90 {

/// Waits until `threads` threads, whole warps, have come to barrier `name` (1 to 15; 0 is
/// __syncthreads), by this function or by named_barrier_arrive. PTX ISA, "bar.sync".
__device__ inline void named_barrier_sync(int name, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

/// Counts at barrier `name` without waiting. PTX ISA, "bar.arrive".
__device__ inline void named_barrier_arrive(int name, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory");
}

}  // namespace attn::sm90
