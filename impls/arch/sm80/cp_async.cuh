// Asynchronous copies from global to shared memory, one instruction a function.
// Source: PTX ISA, "Data Movement and Conversion Instructions: Non-bulk copy" (sm_80 and up).
#pragma once

#include <cstdint>

namespace attn::sm80 {

/// The 32-bit shared-window address that the instructions of this folder take.
__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Copies 16 bytes past L1, or writes 16 zero bytes and reads nothing when `valid` is false.
/// Both addresses are 16-byte aligned. PTX ISA, "cp.async".
__device__ inline void cp_async_16(std::uint32_t to_shared, const void* from_global, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :
               : "r"(to_shared), "l"(__cvta_generic_to_global(from_global)), "r"(valid ? 16 : 0)
               : "memory");
}

/// As cp_async_16, for 4 bytes, which only the path through L1 can copy. PTX ISA, "cp.async".
__device__ inline void cp_async_4(std::uint32_t to_shared, const void* from_global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
               :
               : "r"(to_shared), "l"(__cvta_generic_to_global(from_global)), "r"(valid ? 4 : 0)
               : "memory");
}

/// Closes the group of this thread's copies since the last commit; it may be empty.
/// PTX ISA, "cp.async.commit_group".
__device__ inline void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most the kPending youngest groups of this thread are under way. What has landed
/// becomes visible to other threads only with a barrier. PTX ISA, "cp.async.wait_group".
template <int kPending>
__device__ inline void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace attn::sm80
