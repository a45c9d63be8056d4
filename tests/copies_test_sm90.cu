// Copies of the copy engine on a GPU of compute capability 9.0: which elements of a strided view a
// box of its tensor map holds, and where they land.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/arch/sm90/fence.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/common/tensor_map.h"
#include "tests/device_vector.cuh"
#include "tests/sm90_device.cuh"

namespace attn::sm90 {
namespace {

constexpr std::uint16_t kUntouched = 0xFFFF;  // bits that no source holds

// One box, brought to shared memory full of kUntouched and written out without its swizzle.
__global__ void box_kernel(const __grid_constant__ CUtensorMap map,
                           int column,
                           int row,
                           int head,
                           int batch,
                           int rows,            // of a box
                           std::uint16_t* out,  // [rows, 64]
                           int* arrived) {
  __shared__ std::uint64_t barrier_storage;
  unsigned char* sX = aligned_shared();
  const std::uint32_t barrier = shared_address(&barrier_storage);
  const int thread = static_cast<int>(threadIdx.x);
  const auto element = [&](int i) {
    const int byte = swizzled(i / kBoxColumns, 2 * (i % kBoxColumns));
    return reinterpret_cast<std::uint16_t*>(sX + byte);
  };
  for (int i = thread; i < rows * kBoxColumns; i += static_cast<int>(blockDim.x))
    *element(i) = kUntouched;
  if (thread == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_init_fence();
  }
  fence_async_shared();  // the copy engine may not overtake the stores above
  __syncthreads();
  if (thread == 0) {
    prefetch_tensor_map(&map);
    mbarrier_arrive_expect(barrier, static_cast<std::uint32_t>(rows * kBoxColumns * 2));
    tma_load_4d(shared_address(sX), &map, barrier, column, row, head, batch);
  }
  if (!wait_a_while(barrier, 0)) return;
  for (int i = thread; i < rows * kBoxColumns; i += static_cast<int>(blockDim.x))
    out[i] = *element(i);
  if (thread == 0) *arrived = 1;
}

struct Box {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  int row = 0;
  int column = 0;
};

class Copies : public Sm90Test {
 protected:
  /// Expects of every box the elements of the view, and zeros outside it.
  static void expect_boxes(const TensorSpec& spec,
                           int box_rows,
                           const std::vector<Box>& boxes,
                           int head_step = 1,
                           int batch_step = 1,
                           int box_heads = 1) {
    ASSERT_TRUE(tensor_map_supports(spec)) << tensor_map_supports(spec).reason;
    std::vector<std::uint16_t> storage(static_cast<std::size_t>(spec.storage_elements));
    for (std::size_t i = 0; i < storage.size(); ++i)
      storage[i] = static_cast<std::uint16_t>(1 + i % 65521);  // a prime: no row repeats another
    const DeviceVector<std::uint16_t> device(storage);
    const TensorView view = spec.bind(device.get());
    const TensorMap map = make_tensor_map(view, box_rows, box_heads);
    EXPECT_EQ(map.head_step, head_step);
    EXPECT_EQ(map.batch_step, batch_step);
    const int elements = box_heads * box_rows * kBoxColumns;
    const int shared_bytes = kAlignmentBytes + 2 * elements;
    for (const Box& box : boxes) {
      const DeviceVector<std::uint16_t> out(
          std::vector<std::uint16_t>(static_cast<std::size_t>(elements)));
      const DeviceVector<int> arrived(std::vector<int>(1));
      box_kernel<<<1, 128, shared_bytes>>>(map.map, box.column, box.row,
                                           static_cast<int>(box.head) * map.head_step,
                                           static_cast<int>(box.batch) * map.batch_step,
                                           box_heads * box_rows, out.get(), arrived.get());
      CUDA_CHECK_LAUNCH();
      ASSERT_EQ(arrived.host()[0], 1) << "bytes outside the tensor count too";
      const std::vector<std::uint16_t> got = out.host();
      for (int i = 0; i < elements; ++i) {
        const std::int64_t head = box.head + i / kBoxColumns / box_rows;
        const std::int64_t row = box.row + i / kBoxColumns % box_rows;
        const std::int64_t column = box.column + i % kBoxColumns;
        const bool inside = head < spec.shape[1] && row < spec.shape[2] && column < spec.shape[3];
        const std::int64_t at = spec.offset_elements + view.offset(box.batch, head, row, column);
        const std::uint16_t want = inside ? storage[static_cast<std::size_t>(at)] : 0;
        ASSERT_EQ(got[static_cast<std::size_t>(i)], want)
            << "batch " << box.batch << ", head " << head << ", row " << row << ", column "
            << column;
      }
    }
  }
};

/// A view at `offset` whose storage ends with its last element.
TensorSpec spec_of(const Extents& shape, const Extents& strides, std::int64_t offset = 0) {
  TensorSpec spec{.name = "x",
                  .dtype = DType::kF16,
                  .shape = shape,
                  .strides = strides,
                  .offset_elements = offset,
                  .storage_elements = offset + 1};
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    spec.storage_elements += (shape[axis] - 1) * strides[axis];
  return spec;
}

/// Few rows of several heads: what lies behind the rows, or the heads, arrives as zeros.
TEST_F(Copies, BoxesOfSeveralHeads) {
  expect_boxes(spec_of({2, 5, 13, 80}, {5 * 13 * 80, 13 * 80, 80, 1}), 16,
               {{.head = 0}, {.batch = 1, .head = 3}, {.head = 1, .column = 64}}, 1, 1, 4);
  expect_boxes(spec_of({1, 4, 20, 64}, {20 * 256, 64, 256, 1}), 16,
               {{.head = 0, .row = 3}, {.head = 2, .row = 16}}, 1, 0, 2);
}

TEST_F(Copies, HeadMajor) {
  expect_boxes(spec_of({2, 3, 128, 128}, {3 * 128 * 128, 128 * 128, 128, 1}), 64,
               {{.batch = 0, .head = 0, .row = 0, .column = 0},
                {.batch = 0, .head = 2, .row = 64, .column = 64},
                {.batch = 1, .head = 1, .row = 17, .column = 64}});
}

TEST_F(Copies, OutsideTheTensorAreZerosAndNotTheNextHead) {
  const TensorSpec spec = spec_of({2, 3, 70, 72}, {3 * 70 * 72, 70 * 72, 72, 1});
  expect_boxes(spec, 64,
               {{.head = 1, .row = 64, .column = 0},   // 6 rows
                {.head = 1, .row = 0, .column = 64},   // 8 columns
                {.head = 0, .row = 64, .column = 64},  // both
                {.batch = 1, .head = 2, .row = 69, .column = 64},
                {.head = 1, .row = 70, .column = 0}});  // nothing at all
}

TEST_F(Copies, BoxesOf256RowsAndOf8) {
  const TensorSpec spec = spec_of({1, 2, 300, 64}, {0, 300 * 64, 64, 1});
  expect_boxes(spec, 256, {{.head = 0, .row = 0}, {.head = 1, .row = 256}}, 1, 0);
  expect_boxes(spec, 8, {{.head = 0, .row = 8}, {.head = 1, .row = 296}}, 1, 0);
}

TEST_F(Copies, NarrowRowsWithPaddingBetween) {
  // What lies behind a row's D elements must not show.
  expect_boxes(spec_of({2, 2, 33, 20}, {2 * 33 * 24, 33 * 24, 24, 1}), 64,
               {{.batch = 1, .head = 1}, {.batch = 0, .head = 1, .row = 32}});
}

TEST_F(Copies, RowMajor) {
  constexpr std::int64_t kH = 3, kRows = 67, kD = 64;
  expect_boxes(spec_of({2, kH, kRows, kD}, {kRows * kH * kD, kD, kH * kD, 1}), 64,
               {{.batch = 0, .head = 1}, {.batch = 1, .head = 2, .row = 64}});
}

TEST_F(Copies, SliceOfAFusedProjection) {
  constexpr std::int64_t kH = 4, kRows = 67, kD = 64, kRow = 3 * kH * kD;
  expect_boxes(spec_of({2, kH, kRows, kD}, {kRows * kRow, kD, kRow, 1}, kH * kD), 64,
               {{.batch = 0, .head = 0}, {.batch = 1, .head = 3, .row = 64}});
}

TEST_F(Copies, RepeatedHeadsAndBatchesHaveNoSteps) {
  constexpr std::int64_t kRows = 67, kD = 64;
  const std::vector<Box> boxes = {{.batch = 0, .head = 2}, {.batch = 2, .head = 1, .row = 64}};
  expect_boxes(spec_of({3, 3, kRows, kD}, {kRows * kD, 0, kD, 1}), 64, boxes, 0, 1);
  expect_boxes(spec_of({3, 3, kRows, kD}, {0, kRows * kD, kD, 1}), 64, boxes, 1, 0);
  expect_boxes(spec_of({3, 3, kRows, kD}, {0, 0, kD, 1}), 64, boxes, 0, 0);
}

TEST_F(Copies, AnAxisOfOneElementMayHaveAnyStride) {
  expect_boxes(spec_of({1, 1, 1, 64}, {13, 7, 3, 1}), 64, {{}}, 0, 0);
  expect_boxes(spec_of({1, 2, 1, 40}, {13, 40, 3, 1}), 8, {{.head = 1}}, 1, 0);
}

TEST_F(Copies, ABoxThatTheDriverRefusesThrows) {
  const DeviceVector<std::uint16_t> x(std::vector<std::uint16_t>(64));
  const TensorView view{x.get(), DType::kF16, {1, 1, 1, 64}, {64, 64, 64, 1}};
  EXPECT_THROW(make_tensor_map(view, 257), std::runtime_error);
}

// The kBoxFloats floats from `start` on through a vector map.
constexpr int kBoxFloats = 32;
__global__ void vector_kernel(const __grid_constant__ CUtensorMap map,
                              int start,
                              float* to,  // [kBoxFloats]
                              int* arrived) {
  __shared__ __align__(128) float slot[kBoxFloats];
  __shared__ std::uint64_t barrier_storage;
  const std::uint32_t barrier = shared_address(&barrier_storage);
  const int thread = static_cast<int>(threadIdx.x);
  slot[thread] = -1;
  if (thread == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_init_fence();
  }
  fence_async_shared();
  __syncthreads();
  if (thread == 0) {
    mbarrier_arrive_expect(barrier, sizeof slot);
    tma_load_4d(shared_address(slot), &map, barrier, start, 0, 0, 0);
  }
  if (!wait_a_while(barrier, 0)) return;
  to[thread] = slot[thread];
  if (thread == 0) *arrived = 1;
}

TEST_F(Copies, VectorsStartAtMultiplesOf16BytesAndEndInZeros) {
  std::vector<float> host(64, 99.0f);
  constexpr int kCount = 37;  // elements of the vector, in front of others
  for (int i = 0; i < kCount; ++i) host[static_cast<std::size_t>(i)] = static_cast<float>(i + 1);
  const DeviceVector<float> from(host);
  const CUtensorMap map = make_vector_map(from.get(), kCount, kBoxFloats);
  for (const int start : {0, 4, 20, 36}) {
    const DeviceVector<float> to(std::vector<float>(kBoxFloats, 0.0f));
    const DeviceVector<int> arrived(std::vector<int>(1));
    vector_kernel<<<1, kBoxFloats>>>(map, start, to.get(), arrived.get());
    CUDA_CHECK_LAUNCH();
    ASSERT_EQ(arrived.host()[0], 1);
    const std::vector<float> got = to.host();
    for (int i = 0; i < kBoxFloats; ++i) {
      const int at = start + i;
      EXPECT_EQ(got[static_cast<std::size_t>(i)], at < kCount ? static_cast<float>(at + 1) : 0.0f)
          << "start " << start << ", element " << i;
    }
  }
}

TEST_F(Copies, MatricesBringTheirRowsOneBehindTheOther) {
  constexpr int kColumns = 20;
  constexpr int kRows = 3;
  constexpr int kBox = 8;
  std::vector<float> host(kRows * kColumns);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i + 1);
  const DeviceVector<float> from(host);
  const CUtensorMap map = make_matrix_map(from.get(), kColumns, kRows, kBox, kBoxFloats / kBox);
  for (const int start : {0, 4, 16}) {
    const DeviceVector<float> to(std::vector<float>(kBoxFloats, 0.0f));
    const DeviceVector<int> arrived(std::vector<int>(1));
    vector_kernel<<<1, kBoxFloats>>>(map, start, to.get(), arrived.get());
    CUDA_CHECK_LAUNCH();
    ASSERT_EQ(arrived.host()[0], 1);
    const std::vector<float> got = to.host();
    for (int i = 0; i < kBoxFloats; ++i) {
      const int row = i / kBox;
      const int column = start + i % kBox;
      const float want =
          row < kRows && column < kColumns ? static_cast<float>(row * kColumns + column + 1) : 0.0f;
      EXPECT_EQ(got[static_cast<std::size_t>(i)], want) << "start " << start << ", element " << i;
    }
  }
}

// Thread 0 copies `bytes` bytes to byte 32 of shared memory full of ones.
__global__ void bulk_kernel(const unsigned char* from,
                            unsigned char* to,  // [2048]
                            std::uint32_t bytes,
                            int* arrived) {
  __shared__ __align__(16) unsigned char slot[2048];
  __shared__ std::uint64_t barrier_storage;
  const std::uint32_t barrier = shared_address(&barrier_storage);
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < 2048; i += static_cast<int>(blockDim.x)) slot[i] = 0xFF;
  if (thread == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_init_fence();
  }
  fence_async_shared();
  __syncthreads();
  if (thread == 0) {
    mbarrier_arrive_expect(barrier, bytes);
    bulk_load(shared_address(slot) + 32, from, bytes, barrier);
  }
  if (!wait_a_while(barrier, 0)) return;
  for (int i = thread; i < 2048; i += static_cast<int>(blockDim.x)) to[i] = slot[i];
  if (thread == 0) *arrived = 1;
}

TEST_F(Copies, BulkLoadCopiesItsBytesAndNoMore) {
  std::vector<unsigned char> host(4096);
  for (std::size_t i = 0; i < host.size(); ++i) host[i] = static_cast<unsigned char>(i % 251);
  const DeviceVector<unsigned char> from(host);
  for (const std::size_t bytes : {std::size_t{16}, std::size_t{1040}}) {
    const DeviceVector<unsigned char> to(std::vector<unsigned char>(2048));
    const DeviceVector<int> arrived(std::vector<int>(1));
    bulk_kernel<<<1, 128>>>(from.get() + 48, to.get(), static_cast<std::uint32_t>(bytes),
                            arrived.get());
    CUDA_CHECK_LAUNCH();
    ASSERT_EQ(arrived.host()[0], 1);
    const std::vector<unsigned char> got = to.host();
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(got[i], i >= 32 && i < 32 + bytes ? host[48 + i - 32] : 0xFF) << "byte " << i;
  }
}

}  // namespace
}  // namespace attn::sm90
