// Tensor maps: how the copy engine of sm_90 sees a [B, heads, rows, D] view of 16-bit elements.
// Source: CUDA Driver API, "Tensor Map Object Management"; PTX ISA, "Tensors".
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "harness/core/cuda_check.h"
#include "harness/core/status.h"
#include "harness/core/tensor_view.h"

namespace attn {

/// Columns of a box: 128 bytes, the width of the swizzle.
inline constexpr int kBoxColumns = 64;

/// A map whose boxes are [rows, 64] of one head, swizzled by 128 bytes; what lies outside the
/// tensor arrives as zeros. Coordinates: (column, row, head * head_step, batch * batch_step).
struct TensorMap {
  CUtensorMap map;
  int head_step = 1;  ///< 0 where all heads share the same elements (stride 0)
  int batch_step = 1;
};

/// Why the copy engine cannot take the view, if it cannot. `name` starts the sentence.
inline Support tensor_map_supports(const TensorSpec& spec) {
  const std::string name(spec.name);
  constexpr std::int64_t kElements = 8;  // 16 bytes
  constexpr std::int64_t kMostElements = std::int64_t{1} << 39;
  if (spec.offset_elements % kElements != 0)
    return Support::no(name + " must start at a multiple of 16 bytes");
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (spec.shape[axis] >= std::int64_t{1} << 31)
      return Support::no(name + " must have fewer than 2^31 rows, heads and batches");
    if (spec.shape[axis] == 1) continue;
    if (spec.strides[axis] % kElements != 0)
      return Support::no(name + " must have strides that are multiples of 8 elements");
    if (spec.strides[axis] >= kMostElements)
      return Support::no(name + " must have strides below 2^40 bytes");
  }
  if (spec.shape[2] > 1 && spec.strides[2] == 0)
    return Support::no(name + " must not repeat one row");
  return Support::yes();
}

/// The driver's cuTensorMapEncodeTiled, found once, without linking to it. Throws.
inline decltype(&cuTensorMapEncodeTiled) tensor_map_encoder() {
  static const auto encoder = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                cudaEnableDefault, &found));
#else
    CUDA_CHECK(
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found));
#endif
    if (found != cudaDriverEntryPointSuccess || entry == nullptr)
      throw std::runtime_error("the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  }();
  return encoder;
}

inline void check_tensor_map(CUresult status) {
  if (status != CUDA_SUCCESS)
    throw std::runtime_error("cuTensorMapEncodeTiled failed with " + std::to_string(status));
}

/// Boxes of `box_rows` (at most 256) rows of `view`, of `box_heads` heads that lie apart. Throws
/// CudaError or std::runtime_error.
inline TensorMap make_tensor_map(const TensorView& view, int box_rows, int box_heads = 1) {
  const auto dense = static_cast<cuuint64_t>((view.shape[3] + 7) / 8 * 16);  // any legal stride
  cuuint64_t extents[4] = {static_cast<cuuint64_t>(view.shape[3]), 1, 1, 1};
  cuuint64_t strides_bytes[3] = {dense, dense, dense};
  int steps[3];
  for (std::size_t i = 0; i < 3; ++i) {  // rows, heads, batches
    const std::size_t axis = 2 - i;
    const bool moves = view.shape[axis] > 1 && view.strides[axis] != 0;
    steps[i] = moves ? 1 : 0;
    if (!moves) continue;
    extents[i + 1] = static_cast<cuuint64_t>(view.shape[axis]);
    strides_bytes[i] = static_cast<cuuint64_t>(view.strides[axis] * 2);
  }
  const cuuint32_t box[4] = {kBoxColumns, static_cast<cuuint32_t>(box_rows),
                             static_cast<cuuint32_t>(box_heads), 1};
  const cuuint32_t every[4] = {1, 1, 1, 1};
  const CUtensorMapDataType type = view.dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                             : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  TensorMap result;
  result.head_step = steps[1];
  result.batch_step = steps[2];
  check_tensor_map(
      tensor_map_encoder()(&result.map, type, 4, view.data, extents, strides_bytes, box, every,
                           CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                           CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return result;
}

/// Boxes of `box` (at most 256, a multiple of 4) floats of `box_rows` rows, of `rows` rows of
/// `columns` (below 2^31) contiguous floats. The copy engine takes only boxes that start at
/// multiples of 4 elements; 4 divides `columns` where there are several rows. `data` is aligned to
/// 16 bytes. Coordinates: (column, row, 0, 0). Throws CudaError or std::runtime_error.
inline CUtensorMap make_matrix_map(
    const float* data, std::int64_t columns, std::int64_t rows, int box, int box_rows) {
  const auto dense = static_cast<cuuint64_t>((columns + 3) / 4 * 16);  // any legal stride for one
  const cuuint64_t extents[4] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows), 1,
                                 1};
  const cuuint64_t strides_bytes[3] = {dense, dense, dense};
  const cuuint32_t boxes[4] = {static_cast<cuuint32_t>(box), static_cast<cuuint32_t>(box_rows), 1,
                               1};
  const cuuint32_t every[4] = {1, 1, 1, 1};
  CUtensorMap map;
  check_tensor_map(tensor_map_encoder()(
      &map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, const_cast<float*>(data), extents, strides_bytes,
      boxes, every, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
      CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return map;
}

/// The same of one row of `count` floats. Coordinates: (element, 0, 0, 0).
inline CUtensorMap make_vector_map(const float* data, std::int64_t count, int box) {
  return make_matrix_map(data, count, 1, box, 1);
}

}  // namespace attn
