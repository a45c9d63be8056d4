// Stores of 8 x 8 matrices of 16-bit elements, the inverse of ldmatrix.
// Source: PTX ISA, "Warp-level matrix store instruction: stmatrix" (sm_90).
#pragma once

#include <cstdint>

namespace attn::sm90 {

/// Stores four matrices; all 32 lanes take part. Lanes 8 i to 8 i + 7 give the addresses of the
/// eight 16-byte rows of matrix i, of which a lane holds, in r[i], the elements 2 (lane mod 4) and
/// the next one of row lane / 4. Rows at distinct addresses modulo 128 bytes meet no bank twice.
__device__ inline void stmatrix_x4(std::uint32_t shared_row, const std::uint32_t (&r)[4]) {
  asm volatile(
      "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};"  // PTX ISA, "stmatrix"
      ::"r"(shared_row),
      "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
      : "memory");
}

}  // namespace attn::sm90
