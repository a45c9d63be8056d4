// Barriers in shared memory that count arrivals and bytes, one instruction a function.
// Source: PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier" (sm_90).
#pragma once

#include <cstdint>

namespace attn::sm90 {

/// The 32-bit shared-window address that the instructions of this folder take.
__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// A barrier of `count` arrivals a phase. One thread initialises it; others may use it after
/// mbarrier_init_fence and a barrier of the CTA (of the cluster, for other CTAs).
__device__ inline void mbarrier_init(std::uint32_t barrier, std::uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count)
               : "memory");  // PTX ISA, "mbarrier.init"
}

/// Makes initialised barriers visible to the copy engine and to the cluster.
__device__ inline void mbarrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");  // PTX ISA, "fence"
}

/// One arrival; what this thread wrote before is visible to those who see the phase complete.
__device__ inline void mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(barrier)
               : "memory");  // PTX ISA, "mbarrier.arrive"
}

/// One arrival that also makes the phase wait for `bytes` from the copy engine.
__device__ inline void mbarrier_arrive_expect(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
               "r"(bytes)
               : "memory");  // PTX ISA, "mbarrier.arrive"
}

/// Whether the phase of this parity has completed; may suspend the thread for a while. The parity
/// tells a phase from its neighbours only: whoever waits must have seen the phase before it.
__device__ inline bool mbarrier_try_wait(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t done;
  asm volatile(
      "{\n .reg .pred p;\n"
      " mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"  // "mbarrier.try_wait"
      " selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

__device__ inline void mbarrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  while (!mbarrier_try_wait(barrier, parity)) {
  }
}

/// The same for bytes that other CTAs of the cluster complete: what they stored becomes visible.
__device__ inline void mbarrier_wait_cluster(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n .reg .pred p;\n"
        " mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        " selp.u32 %0, 1, 0, p;\n}"  // PTX ISA, "mbarrier.try_wait"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
}

/// As mbarrier_wait, for a whole warp that goes on together: lanes may leave a wait one by one, but matrix
/// loads and stores, products and shuffles need them all.
__device__ inline void mbarrier_wait_warp(std::uint32_t barrier, std::uint32_t parity) {
  mbarrier_wait(barrier, parity);
  __syncwarp();
}

}  // namespace attn::sm90
