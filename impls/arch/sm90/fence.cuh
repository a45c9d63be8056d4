// Ordering between the proxies through which memory is reached.
// Source: PTX ISA, "Memory Consistency Model: Proxies" and "membar, fence" (sm_90).
#pragma once

namespace attn::sm90 {

/// Orders this thread's ordinary accesses of shared memory before those that tensor cores and the
/// copy engine make after the next barrier. PTX ISA, "fence.proxy".
__device__ inline void fence_async_shared() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace attn::sm90
