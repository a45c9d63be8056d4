// What the tests of sm_90 instructions share: their skip, and waits that end. Device code of a test
// file X_sm90.cu is built for sm_90a alone.
#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>

#include "harness/core/cuda_check.h"
#include "impls/arch/sm90/mbarrier.cuh"
#include "tests/device_vector.cuh"

namespace attn::sm90 {

class Sm90Test : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
    if (properties.major != 9 || properties.minor != 0)
      GTEST_SKIP() << "the GPU is not of compute capability 9.0";
  }
};

/// Waits for the phase of this parity for about a second at most: a test that fails tells more than
/// one that hangs. Whether the phase completed.
__device__ inline bool wait_a_while(std::uint32_t barrier, std::uint32_t parity) {
  constexpr std::int64_t kCycles = std::int64_t{1} << 31;
  const std::int64_t start = clock64();
  while (!mbarrier_try_wait(barrier, parity)) {
    if (clock64() - start > kCycles) return false;
  }
  return true;
}

/// Lets the others run ahead: what they must not see too early comes after this.
__device__ inline void dawdle() {
  const std::int64_t start = clock64();
  while (clock64() - start < 100'000) {
  }
}

/// Dynamic shared memory from its first multiple of 1024 bytes on, as swizzled operands need it; a
/// launch asks for kAlignmentBytes more than it uses.
inline constexpr int kAlignmentBytes = 1024;
__device__ inline unsigned char* aligned_shared() {
  extern __shared__ unsigned char memory[];
  return memory + (kAlignmentBytes - shared_address(memory) % kAlignmentBytes) % kAlignmentBytes;
}

/// Where byte `column_byte` of row `row` lies in a box of rows of 128 bytes, swizzled by 128 bytes:
/// the 16-byte pieces of row r are permuted by exclusive or with r mod 8. The box is aligned.
__host__ __device__ inline int swizzled(int row, int column_byte) {
  return 128 * row + ((column_byte / 16) ^ (row % 8)) * 16 + column_byte % 16;
}

}  // namespace attn::sm90
