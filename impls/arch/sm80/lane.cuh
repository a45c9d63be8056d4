// The number of a thread within its warp or CTA, read where it is needed.
// Source: PTX ISA, "Special Registers: %laneid", "Special Registers: %tid".
#pragma once

namespace attn::sm80 {

/// The lane, 0 to 31. Volatile: each call reads the special register again, so that what rarely
/// needed code derives from the lane is not kept in registers across the loops around it.
__device__ inline int lane_id() {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));  // PTX ISA, "%laneid"
  return lane;
}

/// threadIdx.x, for the same purpose.
__device__ inline int thread_id() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));  // PTX ISA, "%tid"
  return thread;
}

}  // namespace attn::sm80
