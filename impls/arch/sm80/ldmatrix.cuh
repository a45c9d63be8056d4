// Loads of 8 x 8 matrices of 16-bit elements from shared memory into the layout of mma operands.
// Source: PTX ISA, "Warp-level matrix load instruction: ldmatrix" (sm_75 and up).
#pragma once

#include <cstdint>

namespace attn::sm80 {

/// Loads four matrices; all 32 lanes take part. Lanes 8 i to 8 i + 7 give the addresses of the
/// eight 16-byte rows of matrix i. Of each matrix a lane receives, in r[i], the elements 2 (lane
/// mod 4) and the next one of row lane / 4. Rows at distinct addresses modulo 128 bytes meet no
/// bank twice.
__device__ inline void ldmatrix_x4(std::uint32_t (&r)[4], std::uint32_t shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"  // PTX "ldmatrix"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_row));
}

/// The same with each matrix transposed: of matrix i a lane receives the elements of column
/// lane / 4 in rows 2 (lane mod 4) and the next.
__device__ inline void ldmatrix_x4_transposed(std::uint32_t (&r)[4], std::uint32_t shared_row) {
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"  // PTX "ldmatrix"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(shared_row));
}

}  // namespace attn::sm80
