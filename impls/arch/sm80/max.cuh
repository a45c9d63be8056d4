// The maximum that keeps NaN, as one instruction.
// Source: PTX ISA, "Floating Point Instructions: max" (with .NaN sm_80 and up).
#pragma once

namespace attn::sm80 {

/// The larger of both; NaN if either is, unlike fmaxf. PTX ISA, "max".
__device__ inline float max_nan(float a, float b) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));  // PTX ISA, "max"
  return y;
}

}  // namespace attn::sm80
