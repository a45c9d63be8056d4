// Views of strided tensors, and the specification from which the harness allocates them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "harness/core/dtype.h"

namespace attn {

enum class MemorySpace : std::uint8_t { kHost, kDevice, kAny };

inline constexpr int kMaxRank = 4;
using Extents = std::array<std::int64_t, kMaxRank>;

/// A strided tensor of up to four axes in memory that somebody else owns. Strides count elements;
/// unused leading axes have extent 1 and stride 0.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Extents shape{1, 1, 1, 1};
  Extents strides{};

  constexpr std::int64_t offset(std::int64_t i0,
                                std::int64_t i1,
                                std::int64_t i2,
                                std::int64_t i3 = 0) const {
    return i0 * strides[0] + i1 * strides[1] + i2 * strides[2] + i3 * strides[3];
  }
};

/// What a tensor is to its operator. Input families fill query-like and key-like rows differently; a
/// given input follows from the problem and the other inputs, and the operator writes it itself. What
/// is in-out holds input values that a run reads and replaces, such as a gradient that it adds to.
enum class TensorRole : std::uint8_t { kQuery, kKey, kGiven, kOutput, kInOut };

constexpr bool is_written(TensorRole role) {
  return role == TensorRole::kOutput || role == TensorRole::kInOut;
}

/// One tensor of a problem: enough to allocate, fill, poison and compare it.
struct TensorSpec {
  std::string_view name;
  std::int64_t plane = -1;  ///< which one, of a list of tensors that share a name
  TensorRole role = TensorRole::kOutput;
  DType dtype = DType::kF32;
  Extents shape{1, 1, 1, 1};
  Extents strides{};
  std::int64_t offset_elements = 0;   ///< where element (0,0,0,0) lies in the storage
  std::int64_t storage_elements = 0;  ///< padding and offset included
  float scale = 1;                    ///< factor of the values of every input family

  /// "q", or "v[3]" of a list: different for any two tensors of a problem.
  std::string label() const {
    std::string text(name);
    if (plane >= 0) text.append("[").append(std::to_string(plane)).append("]");
    return text;
  }
  std::size_t storage_bytes() const {
    return static_cast<std::size_t>(storage_elements) * size_of(dtype);
  }
  std::int64_t elements() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
  /// A view of `storage`, the first byte of the tensor's allocation.
  TensorView bind(void* storage) const {
    return {
        static_cast<char*>(storage) + static_cast<std::size_t>(offset_elements) * size_of(dtype),
        dtype, shape, strides};
  }
};

}  // namespace attn
