// Proves on a GPU that the instructions of impls/arch/sm80 move elements where their comments say:
// kernels elsewhere rely on these layouts. Without a GPU the tests are skipped.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/arch/sm80/cp_async.cuh"
#include "impls/arch/sm80/lane.cuh"
#include "impls/arch/sm80/ldmatrix.cuh"
#include "impls/arch/sm80/mma.cuh"
#include "tests/device_vector.cuh"

namespace attn::sm80 {
namespace {

class Sm80Instructions : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
    if (properties.major < 8) GTEST_SKIP() << "the GPU is older than sm_80";
  }
};

// One warp: 32 copies of 16 bytes and 32 of 4, every third of each not valid.
__global__ void copy_kernel(const std::uint32_t* from,  // [160]
                            std::uint32_t* to) {        // [160]
  __shared__ __align__(16) std::uint32_t slot[160];
  const int lane = lane_id();
  for (int i = lane; i < 160; i += 32) slot[i] = 7;
  __syncthreads();
  cp_async_16(shared_address(slot + 4 * lane), from + 4 * lane, lane % 3 != 2);
  cp_async_4(shared_address(slot + 128 + lane), from + 128 + lane, lane % 3 != 2);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  for (int i = lane; i < 160; i += 32) to[i] = slot[i];
}

TEST_F(Sm80Instructions, CpAsyncCopiesOrZeroFills) {
  std::vector<std::uint32_t> host(160);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<std::uint32_t>(1000 + i);
  const DeviceVector<std::uint32_t> from(host);
  const DeviceVector<std::uint32_t> to(std::vector<std::uint32_t>(160));
  copy_kernel<<<1, 32>>>(from.get(), to.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<std::uint32_t> got = to.host();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const std::size_t lane = i < 128 ? i / 4 : i - 128;
    EXPECT_EQ(got[i], lane % 3 != 2 ? host[i] : 0u) << "word " << i;
  }
}

// Four 8 x 8 matrices in rows of 16 bytes, one after the other.
__global__ void ldmatrix_kernel(const std::uint32_t* from,  // [4, 8, 4]
                                std::uint32_t* to) {        // [32 lanes, 4]
  __shared__ __align__(16) std::uint32_t matrices[128];
  const int lane = lane_id();
  for (int i = lane; i < 128; i += 32) matrices[i] = from[i];
  __syncthreads();
  std::uint32_t r[4];
  ldmatrix_x4(r, shared_address(matrices + 4 * lane));
  for (int i = 0; i < 4; ++i) to[4 * lane + i] = r[i];
}

TEST_F(Sm80Instructions, LdmatrixGivesEachLanePairsOfItsRow) {
  std::vector<std::uint32_t> host(128);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<std::uint32_t>(i);
  const DeviceVector<std::uint32_t> from(host);
  const DeviceVector<std::uint32_t> to(std::vector<std::uint32_t>(128));
  ldmatrix_kernel<<<1, 32>>>(from.get(), to.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<std::uint32_t> got = to.host();
  for (std::uint32_t lane = 0; lane < 32; ++lane)
    for (std::uint32_t i = 0; i < 4; ++i)
      EXPECT_EQ(got[4 * lane + i], 32 * i + 4 * (lane / 4) + lane % 4) << "lane " << lane;
}

__global__ void ldmatrix_transposed_kernel(const std::uint32_t* from,  // [4, 8, 4]
                                           std::uint32_t* to) {        // [32 lanes, 4]
  __shared__ __align__(16) std::uint32_t matrices[128];
  const int lane = lane_id();
  for (int i = lane; i < 128; i += 32) matrices[i] = from[i];
  __syncthreads();
  std::uint32_t r[4];
  ldmatrix_x4_transposed(r, shared_address(matrices + 4 * lane));
  for (int i = 0; i < 4; ++i) to[4 * lane + i] = r[i];
}

TEST_F(Sm80Instructions, LdmatrixTransposedGivesEachLanePairsOfItsColumn) {
  std::vector<std::uint32_t> host(128);  // 16-bit element e of the four matrices is e
  for (std::uint32_t i = 0; i < 128; ++i) host[i] = 2 * i | (2 * i + 1) << 16;
  const DeviceVector<std::uint32_t> from(host);
  const DeviceVector<std::uint32_t> to(std::vector<std::uint32_t>(128));
  ldmatrix_transposed_kernel<<<1, 32>>>(from.get(), to.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<std::uint32_t> got = to.host();
  for (std::uint32_t lane = 0; lane < 32; ++lane) {
    for (std::uint32_t i = 0; i < 4; ++i) {
      const std::uint32_t low = 64 * i + 8 * (2 * (lane % 4)) + lane / 4;  // row 2 t, column g
      EXPECT_EQ(got[4 * lane + i], low | (low + 8) << 16) << "lane " << lane;
    }
  }
}

/// The 32-bit register with elements `low` and `high`.
template <class Element>
__device__ std::uint32_t pack(Element low, Element high) {
  std::uint16_t bits[2];
  memcpy(&bits[0], &low, 2);
  memcpy(&bits[1], &high, 2);
  return bits[0] | static_cast<std::uint32_t>(bits[1]) << 16;
}

// d[16, 8] = a[16, kDepth] b[8, kDepth]^T + 1, fragments built by the layout in mma.cuh.
template <class Element, int kDepth>
__global__ void mma_kernel(const Element* a, const Element* b, float* d) {
  const int lane = lane_id();
  const int g = lane / 4;
  const int t = lane % 4;
  const auto pair = [](const Element* row, int k) { return pack(row[k], row[k + 1]); };
  const Element* upper = a + kDepth * g;
  const Element* lower = a + kDepth * (g + 8);
  const Element* column = b + kDepth * g;
  float rd[4] = {1, 1, 1, 1};
  if constexpr (kDepth == 8) {
    mma_m16n8k8<Element>(rd, {pair(upper, 2 * t), pair(lower, 2 * t)}, pair(column, 2 * t));
  } else {
    mma_m16n8k16<Element>(
        rd,
        {pair(upper, 2 * t), pair(lower, 2 * t), pair(upper, 2 * t + 8), pair(lower, 2 * t + 8)},
        pair(column, 2 * t), pair(column, 2 * t + 8));
  }
  for (int c = 0; c < 4; ++c) d[8 * (g + 8 * (c / 2)) + 2 * t + c % 2] = rd[c];
}

// The same with tf32 elements, which small integers are.
template <int kDepth>
__global__ void tf32_mma_kernel(const float* a, const float* b, float* d) {
  const int g = lane_id() / 4;
  const int t = lane_id() % 4;
  const auto at = [&](int row, int k) { return __float_as_uint(a[kDepth * row + k]); };
  const auto b_at = [&](int k) { return __float_as_uint(b[kDepth * g + k]); };
  float rd[4] = {1, 1, 1, 1};
  if constexpr (kDepth == 4) {
    mma_m16n8k4_tf32(rd, {at(g, t), at(g + 8, t)}, b_at(t));
  } else {
    mma_m16n8k8_tf32(rd, {at(g, t), at(g + 8, t), at(g, t + 4), at(g + 8, t + 4)}, b_at(t),
                     b_at(t + 4));
  }
  for (int c = 0; c < 4; ++c) d[8 * (g + 8 * (c / 2)) + 2 * t + c % 2] = rd[c];
}

template <class Element, int kDepth>
void expect_product() {
  std::vector<Element> a(16 * kDepth);
  std::vector<Element> b(8 * kDepth);
  std::vector<int> int_a(a.size());
  std::vector<int> int_b(b.size());
  for (std::size_t i = 0; i < a.size(); ++i) int_a[i] = static_cast<int>(i * 7 % 23) - 11;
  for (std::size_t i = 0; i < b.size(); ++i) int_b[i] = static_cast<int>(i * 5 % 19) - 9;
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = Element(static_cast<float>(int_a[i]));
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = Element(static_cast<float>(int_b[i]));
  const DeviceVector<Element> device_a(a);
  const DeviceVector<Element> device_b(b);
  const DeviceVector<float> device_d(std::vector<float>(16 * 8));
  if constexpr (std::is_same_v<Element, float>) {
    tf32_mma_kernel<kDepth><<<1, 32>>>(device_a.get(), device_b.get(), device_d.get());
  } else {
    mma_kernel<Element, kDepth><<<1, 32>>>(device_a.get(), device_b.get(), device_d.get());
  }
  CUDA_CHECK_LAUNCH();
  const std::vector<float> got = device_d.host();
  for (std::size_t row = 0; row < 16; ++row) {
    for (std::size_t column = 0; column < 8; ++column) {
      int want = 1;  // small integers: exact in every type on the way
      for (std::size_t k = 0; k < kDepth; ++k)
        want += int_a[kDepth * row + k] * int_b[kDepth * column + k];
      EXPECT_EQ(got[8 * row + column], static_cast<float>(want)) << row << ", " << column;
    }
  }
}

TEST_F(Sm80Instructions, MmaF16) { expect_product<__half, 16>(); }
TEST_F(Sm80Instructions, MmaBf16) { expect_product<__nv_bfloat16, 16>(); }
TEST_F(Sm80Instructions, HalfMmaF16) { expect_product<__half, 8>(); }
TEST_F(Sm80Instructions, HalfMmaBf16) { expect_product<__nv_bfloat16, 8>(); }
TEST_F(Sm80Instructions, MmaTf32) { expect_product<float, 8>(); }
TEST_F(Sm80Instructions, HalfMmaTf32) { expect_product<float, 4>(); }

}  // namespace
}  // namespace attn::sm80
