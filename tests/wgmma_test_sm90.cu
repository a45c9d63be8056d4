// Products of a warpgroup on a GPU of compute capability 9.0: operands come through a tensor map
// and the copy engine, or through stores and a fence, so that map, swizzle, descriptor and
// fragments must agree. Small integers: every sum is exact.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/arch/sm90/fence.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/arch/sm90/wgmma.cuh"
#include "impls/common/tensor_map.h"
#include "tests/device_vector.cuh"
#include "tests/sm90_device.cuh"

namespace attn::sm90 {
namespace {

constexpr int kRows = 64;       // of a
constexpr int kRowBytes = 128;  // of a box in shared memory
constexpr float kPreset = 5;    // in the accumulators before the first product

/// How the operands reach the tensor cores: both from shared memory, brought by the copy engine or
/// by stores, or a from registers and b by the copy engine.
enum class Feed { kCopied, kStored, kRegisters };

constexpr int operand_bytes(int rows, int inner) { return rows * inner * 2; }
constexpr int shared_bytes(int columns, int inner) {
  return kAlignmentBytes + operand_bytes(kRows, inner) + operand_bytes(columns, inner);
}

/// Writes x[rows, inner] as boxes of [rows, 64], swizzled, by ordinary stores.
template <class Element>
__device__ void store_operand(unsigned char* sX, const Element* x, int rows, int inner) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * inner; i += static_cast<int>(blockDim.x)) {
    const int row = i / inner;
    const int column = i % inner;
    unsigned char* box = sX + column / kBoxColumns * rows * kRowBytes;
    *reinterpret_cast<Element*>(box + swizzled(row, 2 * (column % kBoxColumns))) = x[i];
  }
}

/// The 32-bit register with the elements at x and x + 1.
template <class Element>
__device__ std::uint32_t pair_at(const Element* x) {
  std::uint32_t bits;
  memcpy(&bits, x, 4);
  return bits;
}

// d = a b^T, added to kPreset if `accumulate`. One warpgroup.
template <class Element, int kColumns, int kInner, Feed kFeed>
__global__ void __launch_bounds__(128) product_kernel(const __grid_constant__ CUtensorMap map_a,
                                                      const __grid_constant__ CUtensorMap map_b,
                                                      const Element* a,  // [64, kInner]
                                                      const Element* b,  // [kColumns, kInner]
                                                      float* d,          // [64, kColumns]
                                                      bool accumulate,
                                                      int* arrived) {
  __shared__ std::uint64_t barrier_storage;
  unsigned char* sA = aligned_shared();
  unsigned char* sB = sA + operand_bytes(kRows, kInner);
  const std::uint32_t shared_a = shared_address(sA);
  const std::uint32_t shared_b = shared_address(sB);
  const int thread = static_cast<int>(threadIdx.x);

  if constexpr (kFeed == Feed::kStored) {
    store_operand(sA, a, kRows, kInner);
    store_operand(sB, b, kColumns, kInner);
    fence_async_shared();
    __syncthreads();
  } else {
    const std::uint32_t barrier = shared_address(&barrier_storage);
    if (thread == 0) {
      prefetch_tensor_map(&map_a);
      prefetch_tensor_map(&map_b);
      mbarrier_init(barrier, 1);
      mbarrier_init_fence();
      mbarrier_arrive_expect(barrier,
                             operand_bytes(kRows, kInner) + operand_bytes(kColumns, kInner));
      for (int c = 0; c < kInner; c += kBoxColumns) {
        tma_load_4d(shared_a + c * 2 * kRows, &map_a, barrier, c, 0, 0, 0);
        tma_load_4d(shared_b + c * 2 * kColumns, &map_b, barrier, c, 0, 0, 0);
      }
    }
    __syncthreads();
    if (!wait_a_while(barrier, 0)) return;
  }
  if (thread == 0) *arrived = 1;

  const int warp = thread / 32;
  const int g = thread % 32 / 4;
  const int t = thread % 4;
  std::uint32_t ra[kInner / 16][4];
  if constexpr (kFeed == Feed::kRegisters) {
#pragma unroll
    for (int step = 0; step < kInner / 16; ++step) {
      const Element* gA = a + (16 * warp + g) * kInner + 16 * step + 2 * t;
      ra[step][0] = pair_at(gA);
      ra[step][1] = pair_at(gA + 8 * kInner);
      ra[step][2] = pair_at(gA + 8);
      ra[step][3] = pair_at(gA + 8 * kInner + 8);
    }
  }
  float rd[kColumns / 2];
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) rd[i] = kPreset;
  pin_registers(rd);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < kInner / 16; ++step) {
    const int box = step / 4;
    const std::uint64_t inside = step % 4 * kDescriptorStep;
    const std::uint64_t of_b = wgmma_descriptor(shared_b + box * kColumns * kRowBytes) + inside;
    if constexpr (kFeed == Feed::kRegisters) {
      wgmma_registers<Element>(rd, ra[step], of_b, accumulate || step > 0);
    } else {
      const std::uint64_t of_a = wgmma_descriptor(shared_a + box * kRows * kRowBytes) + inside;
      wgmma_shared<Element>(rd, of_a, of_b, accumulate || step > 0);
    }
  }
  wgmma_commit();
  wgmma_wait<0>();
  pin_registers(rd);
#pragma unroll
  for (int i = 0; i < kColumns / 2; ++i) {
    const int row = 16 * warp + g + i / 2 % 2 * 8;
    d[row * kColumns + i / 4 * 8 + 2 * t + i % 2] = rd[i];
  }
}

template <class Element>
constexpr DType dtype_of() {
  return std::is_same_v<Element, __half> ? DType::kF16 : DType::kBF16;
}

/// A dense [1, 1, rows, inner] tensor.
template <class Element>
TensorView view_of(const DeviceVector<Element>& x, std::int64_t rows, std::int64_t inner) {
  return {
      x.get(), dtype_of<Element>(), {1, 1, rows, inner}, {rows * inner, rows * inner, inner, 1}};
}

/// Small integers without a period that divides a tile's.
std::vector<int> integers(int count, int factor, int period) {
  std::vector<int> x(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) x[static_cast<std::size_t>(i)] = i * factor % period - period / 2;
  return x;
}

template <class Element>
std::vector<Element> elements(const std::vector<int>& integers) {
  std::vector<Element> x;
  for (const int i : integers) x.push_back(Element(static_cast<float>(i)));
  return x;
}

template <class Element, int kColumns, int kInner, Feed kFeed>
void expect_product(bool accumulate) {
  SCOPED_TRACE("n " + std::to_string(kColumns) + ", k " + std::to_string(kInner) + ", feed " +
               std::to_string(static_cast<int>(kFeed)) + ", accumulate " +
               std::to_string(accumulate));
  const std::vector<int> a = integers(kRows * kInner, 7, 23);
  const std::vector<int> b = integers(kColumns * kInner, 5, 19);
  const DeviceVector<Element> device_a(elements<Element>(a));
  const DeviceVector<Element> device_b(elements<Element>(b));
  const DeviceVector<float> d(std::vector<float>(kRows * kColumns));
  const DeviceVector<int> arrived(std::vector<int>(1));
  const TensorMap map_a = make_tensor_map(view_of(device_a, kRows, kInner), kRows);
  const TensorMap map_b = make_tensor_map(view_of(device_b, kColumns, kInner), kColumns);
  const auto kernel = product_kernel<Element, kColumns, kInner, kFeed>;
  constexpr int kShared = shared_bytes(kColumns, kInner);
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared));
  kernel<<<1, 128, kShared>>>(map_a.map, map_b.map, device_a.get(), device_b.get(), d.get(),
                              accumulate, arrived.get());
  CUDA_CHECK_LAUNCH();
  ASSERT_EQ(arrived.host()[0], 1) << "the operands never came";
  const std::vector<float> got = d.host();
  int wrong = 0;
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < kColumns; ++column) {
      int want = accumulate ? static_cast<int>(kPreset) : 0;
      for (int k = 0; k < kInner; ++k)
        want += a[static_cast<std::size_t>(row * kInner + k)] *
                b[static_cast<std::size_t>(column * kInner + k)];
      const float value = got[static_cast<std::size_t>(row * kColumns + column)];
      if (value == static_cast<float>(want)) continue;
      if (++wrong == 1) ADD_FAILURE() << row << ", " << column << ": " << value << ", not " << want;
    }
  }
  EXPECT_EQ(wrong, 0) << "elements differ";
}

template <class Element, Feed kFeed>
void expect_products() {
  for (const bool accumulate : {false, true}) {
    expect_product<Element, 64, 64, kFeed>(accumulate);
    expect_product<Element, 64, 128, kFeed>(accumulate);
    expect_product<Element, 128, 64, kFeed>(accumulate);
    expect_product<Element, 128, 128, kFeed>(accumulate);
  }
}

class Wgmma : public Sm90Test {};

TEST_F(Wgmma, CopiedOperandsF16) { expect_products<__half, Feed::kCopied>(); }
TEST_F(Wgmma, CopiedOperandsBf16) { expect_products<__nv_bfloat16, Feed::kCopied>(); }
TEST_F(Wgmma, RegistersF16) { expect_products<__half, Feed::kRegisters>(); }
TEST_F(Wgmma, RegistersBf16) { expect_products<__nv_bfloat16, Feed::kRegisters>(); }
// The fence makes the stores visible to the tensor cores, which read past the usual path.
TEST_F(Wgmma, StoredOperandsBehindAFence) {
  expect_products<__half, Feed::kStored>();
  expect_products<__nv_bfloat16, Feed::kStored>();
}

// Two groups in flight: after waiting for all but the youngest, the first is whole.
__global__ void __launch_bounds__(128) two_groups_kernel(const __half* x,  // [64, 64]
                                                         float* d) {       // [2, 64, 64]
  unsigned char* sX = aligned_shared();
  store_operand(sX, x, kRows, 64);
  fence_async_shared();
  __syncthreads();
  const std::uint64_t operand = wgmma_descriptor(shared_address(sX));
  float rd[2][32];
#pragma unroll
  for (int group = 0; group < 2; ++group) {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; ++step)
      wgmma_shared<__half>(rd[group], operand + step * kDescriptorStep,
                           operand + step * kDescriptorStep, step > 0);
    wgmma_commit();
  }
  const int thread = static_cast<int>(threadIdx.x);
  const auto store = [&](int group) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int row = 16 * (thread / 32) + thread % 32 / 4 + i / 2 % 2 * 8;
      d[(group * kRows + row) * 64 + i / 4 * 8 + thread % 4 * 2 + i % 2] = rd[group][i];
    }
  };
  wgmma_wait<1>();
  pin_registers(rd[0]);
  store(0);
  wgmma_wait<0>();
  pin_registers(rd[1]);
  store(1);
}

TEST_F(Wgmma, WaitingForAllButTheYoungestGroup) {
  const std::vector<int> x = integers(kRows * 64, 7, 23);
  const DeviceVector<__half> device_x(elements<__half>(x));
  const DeviceVector<float> d(std::vector<float>(2 * kRows * 64));
  two_groups_kernel<<<1, 128, kAlignmentBytes + operand_bytes(kRows, 64)>>>(device_x.get(),
                                                                            d.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<float> got = d.host();
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t column = 0; column < 64; ++column) {
      int want = 0;
      for (std::size_t k = 0; k < 64; ++k) want += x[row * 64 + k] * x[column * 64 + k];
      ASSERT_EQ(got[row * 64 + column], static_cast<float>(want)) << row << ", " << column;
      ASSERT_EQ(got[(kRows + row) * 64 + column], static_cast<float>(want));
    }
  }
}

}  // namespace
}  // namespace attn::sm90
