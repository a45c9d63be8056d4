// Typed memory access of kernels: 16-byte vectors, their prefixes, conversion to and from fp32.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "harness/core/dtype.h"

namespace attn {

/// Elements of T in one 16-byte access, the widest that a thread can issue.
template <class T>
inline constexpr int kVectorElements = 16 / static_cast<int>(sizeof(T));

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// Rounds to nearest even.
template <class T>
__device__ inline T from_float(float x) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(x);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    static_assert(std::is_same_v<T, float>, "elements are f16, bf16 or f32");
    return x;
  }
}

/// The two 16-bit elements of a word, the lower half first.
template <class T>
__device__ inline float2 unpack_pair(std::uint32_t word) {
  if constexpr (std::is_same_v<T, __half>) {
    return __half22float2(*reinterpret_cast<const __half2*>(&word));
  } else {
    static_assert(std::is_same_v<T, __nv_bfloat16>, "pairs are of f16 or bf16");
    return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
  }
}

template <class T>
__device__ inline std::uint32_t pack_pair(float low, float high) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  } else {
    static_assert(std::is_same_v<T, __nv_bfloat16>, "pairs are of f16 or bf16");
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
}

/// The elements of a vector's 16 bytes.
template <class T>
__device__ inline void unpack_vector(const uint4& raw, float (&out)[kVectorElements<T>]) {
  const std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      out[i] = __uint_as_float(words[i]);
    } else {
      const float2 pair = unpack_pair<T>(words[i]);
      out[2 * i] = pair.x;
      out[2 * i + 1] = pair.y;
    }
  }
}

/// Reads one vector; `source` is 16-byte aligned.
template <class T>
__device__ inline void load_vector(const T* source, float (&out)[kVectorElements<T>]) {
  unpack_vector<T>(*reinterpret_cast<const uint4*>(source), out);
}

/// The 16 bytes of a vector, each element rounded once.
template <class T>
__device__ inline uint4 pack_vector(const float (&in)[kVectorElements<T>]) {
  std::uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      words[i] = __float_as_uint(in[i]);
    } else {
      words[i] = pack_pair<T>(in[2 * i], in[2 * i + 1]);
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

/// Writes one vector, each element rounded once; `target` is 16-byte aligned.
template <class T>
__device__ inline void store_vector(T* target, const float (&in)[kVectorElements<T>]) {
  *reinterpret_cast<uint4*>(target) = pack_vector<T>(in);
}

/// Replaces the first `count` elements of `raw` if 0 < count < a whole vector; else does nothing.
template <class T>
__device__ inline void load_partial(const T* source, std::int64_t count, uint4& raw) {
  constexpr int kWidth = kVectorElements<T>;
  if (count <= 0 || count >= kWidth) return;
  std::uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < kWidth - 1; ++i) {
    if (i >= count) continue;
    if constexpr (sizeof(T) == 4) {
      words[i] = __float_as_uint(source[i]);
    } else {
      const std::uint32_t bits = reinterpret_cast<const std::uint16_t*>(source)[i];
      words[i / 2] = i % 2 == 0 ? (words[i / 2] & 0xffff0000u) | bits
                                : (words[i / 2] & 0x0000ffffu) | bits << 16;
    }
  }
  raw = make_uint4(words[0], words[1], words[2], words[3]);
}

/// Reads kCount vectors at source + i * stride, of which the first counts[i] elements exist (any
/// integer: at most 0 means none). The others become `fill`; their memory is not touched. `source`
/// and its strides are 16-byte aligned.
template <class T, int kCount>
__device__ inline void load_prefixes(const T* source,
                                     std::int64_t stride,
                                     const std::int64_t (&counts)[kCount],
                                     float fill,
                                     float (&out)[kCount][kVectorElements<T>]) {
  std::uint32_t empty;
  if constexpr (sizeof(T) == 4) {
    empty = __float_as_uint(fill);
  } else {
    empty = pack_pair<T>(fill, fill);
  }
  // Whole vectors first and without conversion, so that all loads are in flight together.
  uint4 raw[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    raw[i] = make_uint4(empty, empty, empty, empty);
    if (counts[i] >= kVectorElements<T>)
      raw[i] = *reinterpret_cast<const uint4*>(source + i * stride);
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) load_partial(source + i * stride, counts[i], raw[i]);
#pragma unroll
  for (int i = 0; i < kCount; ++i) unpack_vector<T>(raw[i], out[i]);
}

/// Writes the first `count` elements of a vector and leaves the rest as it is.
template <class T>
__device__ inline void store_prefix(T* target,
                                    std::int64_t count,
                                    const float (&in)[kVectorElements<T>]) {
  if (count >= kVectorElements<T>) {
    store_vector(target, in);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVectorElements<T>; ++i) {
    if (i < count) target[i] = from_float<T>(in[i]);
  }
}

/// Stores `value` rounded once to the type that only the run-time knows.
__device__ inline void store_rounded(void* data, DType dtype, std::int64_t index, float value) {
  switch (dtype) {
    case DType::kF16:
      static_cast<__half*>(data)[index] = __float2half_rn(value);
      return;
    case DType::kBF16:
      static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16_rn(value);
      return;
    case DType::kF32:
      static_cast<float*>(data)[index] = value;
      return;
  }
}

/// Calls `function(std::type_identity<T>{})` with the device type of `dtype`.
template <class Function>
decltype(auto) with_element_type(DType dtype, Function&& function) {
  switch (dtype) {
    case DType::kF16:
      return function(std::type_identity<__half>{});
    case DType::kBF16:
      return function(std::type_identity<__nv_bfloat16>{});
    case DType::kF32:
      break;
  }
  return function(std::type_identity<float>{});
}

}  // namespace attn
