// The number of a thread within its warp, read where it is needed.
// Source: PTX ISA, "Special Registers: %laneid".
#pragma once

namespace attn::sm80 {

/// The lane, 0 to 31. Volatile: each call reads the special register again, so that what rarely
/// needed code derives from the lane is not kept in registers across the loops around it.
__device__ inline int lane_id() {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));  // PTX ISA, "%laneid"
  return lane;
}

}  // namespace attn::sm80
