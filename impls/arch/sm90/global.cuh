// Accesses of global memory that CTAs of one grid use to talk to each other.
// Source: PTX ISA, "Memory Consistency Model: Operation Types, Scope" and "ld, st, red" (sm_70 and up).
#pragma once

#include <cstdint>

namespace attn::sm90 {

/// An 8-byte load that sees what other CTAs store, but orders nothing else. PTX ISA, "ld".
__device__ inline std::uint64_t load_relaxed(const std::uint64_t* address) {
  std::uint64_t value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];"
               : "=l"(value)
               : "l"(__cvta_generic_to_global(address))
               : "memory");
  return value;
}

/// An 8-byte store, whole or not at all, that other CTAs come to see. PTX ISA, "st".
__device__ inline void store_relaxed(std::uint64_t* address, std::uint64_t value) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(address)),
               "l"(value)
               : "memory");
}

/// The same of two numbers, each whole by itself, at a multiple of 16 bytes.
__device__ inline void load_relaxed(const std::uint64_t* address, std::uint64_t (&values)[2]) {
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(values[0]), "=l"(values[1])
               : "l"(__cvta_generic_to_global(address))
               : "memory");
}
__device__ inline void store_relaxed(std::uint64_t* address, const std::uint64_t (&values)[2]) {
  asm volatile(
      "st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(address)),
      "l"(values[0]), "l"(values[1])
      : "memory");
}

/// Adds to 8 bytes that other CTAs add to, in any order: the sum of integers is the same. PTX ISA, "red".
__device__ inline void add_relaxed(std::uint64_t* address, std::uint64_t value) {
  asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(address)),
               "l"(value)
               : "memory");
}

}  // namespace attn::sm90
