// Moving registers between the warpgroups of a CTA.
// Source: PTX ISA, "Miscellaneous Instructions: setmaxnreg" (sm_90a).
#pragma once

namespace attn::sm90 {

/// Gives back registers: each thread of the warpgroup keeps kCount (24 to 256, a multiple of 8).
/// All warps of the warpgroup take part.
template <int kCount>
__device__ inline void give_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256, "setmaxnreg takes these counts");
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));  // PTX ISA, "setmaxnreg"
}

/// Takes registers until each thread of the warpgroup has kCount; waits until others have given
/// enough. The pool is what the CTA got at launch, so that the counts of all warpgroups must not
/// add up to more: else this waits for ever.
template <int kCount>
__device__ inline void take_registers() {
  static_assert(kCount % 8 == 0 && kCount >= 24 && kCount <= 256, "setmaxnreg takes these counts");
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));  // PTX ISA, "setmaxnreg"
}

}  // namespace attn::sm90
