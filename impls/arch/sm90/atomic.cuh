// Counters that hand work from one warp to another, in shared memory, or to CTAs, in global memory.
// Source: PTX ISA, "Parallel Synchronization and Communication Instructions: atom, membar/fence".
#pragma once

#include <cstdint>

namespace attn::sm90 {

/// Counts to `last` and starts again at 0: returns what the counter at `shared` was and leaves the
/// next number there; orders nothing else. (Not add: of an add without order ptxas makes one
/// for the whole warp, with votes around it.) PTX ISA, "atom".
__device__ inline std::uint32_t shared_count_relaxed(std::uint32_t shared, std::uint32_t last) {
  std::uint32_t old;
  asm volatile("atom.relaxed.cta.shared::cta.inc.u32 %0, [%1], %2;"  // PTX ISA, "atom"
               : "=r"(old)
               : "r"(shared), "r"(last)
               : "memory");
  return old;
}

/// The same of a counter in global memory, for all CTAs.
__device__ inline std::uint32_t global_count_relaxed(std::uint32_t* counter, std::uint32_t last) {
  std::uint32_t old;
  asm volatile("atom.relaxed.gpu.global.inc.u32 %0, [%1], %2;"  // PTX ISA, "atom"
               : "=r"(old)
               : "l"(__cvta_generic_to_global(counter)), "r"(last)
               : "memory");
  return old;
}

/// Of two threads of a CTA that both call this, the first before it counts at a counter, the second
/// after it has counted there later: what the first did before is visible to the second.
/// PTX ISA, "fence".
__device__ inline void fence_cta() { asm volatile("fence.acq_rel.cta;" ::: "memory"); }

}  // namespace attn::sm90
