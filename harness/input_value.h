// The value of one input element of every input family. Integer arithmetic and single fp32
// operations only, so that CPU and GPU produce the same bits.
#pragma once

#include <cstdint>

#include "harness/core/host_device.h"
#include "harness/core/input_family.h"
#include "harness/core/tensor_view.h"
#include "harness/philox.h"

namespace attn {

/// Where an element lies: its row in [0, rows) of head `head` (batch and head together), and d.
struct InputPosition {
  std::int64_t head = 0;
  std::int64_t row = 0;
  std::int64_t rows = 1;
  std::int64_t d = 0;
  std::int64_t D = 1;
};

/// Row `i` of a tensor's B * heads * rows rows: where it lies and whose values it holds. Along an
/// axis of stride 0 all positions share memory, so they share the values of position 0 too.
struct InputRow {
  std::int64_t offset = 0;
  std::int64_t head = 0;
  std::int64_t row = 0;
};

ATTN_HOST_DEVICE inline InputRow input_row(const TensorSpec& spec, std::int64_t i) {
  const std::int64_t row = spec.strides[2] == 0 ? 0 : i % spec.shape[2];
  const std::int64_t head_of_batch = i / spec.shape[2] % spec.shape[1];
  const std::int64_t h = spec.strides[1] == 0 ? 0 : head_of_batch;
  const std::int64_t b = spec.strides[0] == 0 ? 0 : i / spec.shape[2] / spec.shape[1];
  return {b * spec.strides[0] + h * spec.strides[1] + row * spec.strides[2], b * spec.shape[1] + h,
          row};
}

/// Standard deviation 1, near normal: the sum of eight 16-bit uniforms (Irwin-Hall), |x| < 4.9.
ATTN_HOST_DEVICE inline float near_normal(const PhiloxBlock& bits) {
  std::int32_t sum = 0;
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<std::int32_t>(bits.word[i] & 0xffffu);
    sum += static_cast<std::int32_t>(bits.word[i] >> 16);
  }
  // Mean 8 * 65535 / 2; variance 8 * (65536^2 - 1) / 12.
  return static_cast<float>(sum - 262140) * 1.8688e-05f;
}

/// Keys of the last partial 128-row tile (at least one) are hot in the `tail` family.
ATTN_HOST_DEVICE inline bool in_tail(std::int64_t row, std::int64_t rows) {
  const std::int64_t tail = rows % 128 == 0 ? 1 : rows % 128;
  return row >= rows - tail;
}

/// Value before rounding to the input type; `key` is the tensor's seed.
ATTN_HOST_DEVICE inline float input_value(InputFamily family,
                                          TensorRole role,
                                          std::uint64_t key,
                                          const InputPosition& at) {
  const auto index = static_cast<std::uint64_t>((at.head * at.rows + at.row) * at.D + at.d);
  const PhiloxBlock bits = philox(index, 0, key);
  const float normal = near_normal(bits);
  const float magnitude = normal < 0 ? -normal : normal;
  const bool is_key = role == TensorRole::kKey;
  switch (family) {
    case InputFamily::kNormal:
      break;
    case InputFamily::kUniform:
      return static_cast<float>(static_cast<std::int32_t>(bits.word[0] >> 8) - 0x800000) *
             2.0647654e-07f;  // sqrt(3) / 2^23
    case InputFamily::kPeaked:
      return 4 * normal;
    case InputFamily::kNeg:
      return is_key ? -magnitude : magnitude;
    case InputFamily::kTail:
      return is_key && !in_tail(at.row, at.rows) ? -magnitude : magnitude;
    case InputFamily::kOneHot:
      return at.row % at.D == at.d ? 64.0f : 0.0f;
    case InputFamily::kAllEqual:
      return 0.5f;
  }
  return normal;
}

}  // namespace attn
