// Warp-level matrix products on tensor cores: D = A B + C with fp32 accumulators.
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and "... for
// mma.m16n8k8" (sm_80 and up).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace attn::sm80 {

/// d[16, 8] += a[16, 16] b[16, 8] for a whole warp; a row-major, b column-major. With g = lane / 4
/// and t = lane mod 4 a lane holds, two 16-bit elements a register,
///   a[0]: row g,   k = 2 t, 2 t + 1     a[1]: row g + 8, the same k
///   a[2]: row g,   k + 8                a[3]: row g + 8, k + 8
///   b0:   column g, k = 2 t, 2 t + 1    b1:   column g, k + 8
///   d[0], d[1]: row g, columns 2 t, 2 t + 1    d[2], d[3]: row g + 8, the same columns
template <class Element>
__device__ void mma_m16n8k16(float (&d)[4],
                             const std::uint32_t (&a)[4],
                             std::uint32_t b0,
                             std::uint32_t b1);

// Not volatile: a product has no effect but its result, so the compiler may move it.
template <>
__device__ inline void mma_m16n8k16<__half>(float (&d)[4],
                                            const std::uint32_t (&a)[4],
                                            std::uint32_t b0,
                                            std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "  // PTX ISA, "mma"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ inline void mma_m16n8k16<__nv_bfloat16>(float (&d)[4],
                                                   const std::uint32_t (&a)[4],
                                                   std::uint32_t b0,
                                                   std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "  // PTX ISA, "mma"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// d[16, 8] += a[16, 8] b[8, 8]: the first half of the above, a[0], a[1] and b0.
template <class Element>
__device__ void mma_m16n8k8(float (&d)[4], const std::uint32_t (&a)[2], std::uint32_t b0);

template <>
__device__ inline void mma_m16n8k8<__half>(float (&d)[4],
                                           const std::uint32_t (&a)[2],
                                           std::uint32_t b0) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "  // PTX ISA, "mma"
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
}

template <>
__device__ inline void mma_m16n8k8<__nv_bfloat16>(float (&d)[4],
                                                  const std::uint32_t (&a)[2],
                                                  std::uint32_t b0) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "  // PTX ISA, "mma"
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
}

/// d[16, 8] += a[16, 8] b[8, 8] of tf32, one element a register, whose lower 13 bits are zeros; g and t
/// as above:
///   a[0]: row g, k = t    a[1]: row g + 8, k = t    a[2]: row g, k = t + 4    a[3]: row g + 8, k = t + 4
///   b0: column g, k = t   b1: column g, k = t + 4
__device__ inline void mma_m16n8k8_tf32(float (&d)[4],
                                        const std::uint32_t (&a)[4],
                                        std::uint32_t b0,
                                        std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "  // PTX ISA, "mma"
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// The first half of it: d[16, 8] += a[16, 4] b[4, 8].
__device__ inline void mma_m16n8k4_tf32(float (&d)[4],
                                        const std::uint32_t (&a)[2],
                                        std::uint32_t b0) {
  asm("mma.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 "  // PTX ISA, "mma"
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
}

}  // namespace attn::sm80
