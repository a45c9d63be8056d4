// Groups of eight columns of a row: what one thread reads, computes with and writes at a time.
#pragma once

#include <cstdint>

#include "impls/attnres/rows.h"
#include "impls/common/vector_io.cuh"

namespace attn::attnres {

inline constexpr int kColumns = 8;

/// 16-byte vectors of a group.
template <class T>
inline constexpr int kGroupVectors = kColumns* static_cast<int>(sizeof(T)) / 16;

/// Columns [8 group, 8 group + 8) of a row that starts on 16 bytes.
template <class T>
__device__ inline void load_group(const T* row, int group, float (&x)[kColumns]) {
  constexpr int kWidth = kVectorElements<T>;
#pragma unroll
  for (int part = 0; part < kGroupVectors<T>; ++part) {
    float vector[kWidth];
    load_vector(row + group * kColumns + part * kWidth, vector);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) x[part * kWidth + i] = vector[i];
  }
}

/// The same one element at a time; columns from D on are 0.
template <class T>
__device__ inline void load_group_single(const T* row, int group, int D, float (&x)[kColumns]) {
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    const int column = group * kColumns + i;
    x[i] = column < D ? to_float(row[column]) : 0.0f;
  }
}

template <class T, Rows kRows>
__device__ inline void load_columns(const T* row, int group, int D, float (&x)[kColumns]) {
  if constexpr (kRows == Rows::kSingle) {
    load_group_single(row, group, D, x);
  } else {
    load_group(row, group, x);
  }
}

/// Writes a group to a row that starts on 16 bytes, past the caches: nobody reads it soon.
template <class T>
__device__ inline void store_group(T* row, int group, const float (&x)[kColumns]) {
  constexpr int kWidth = kVectorElements<T>;
#pragma unroll
  for (int part = 0; part < kGroupVectors<T>; ++part) {
    float vector[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) vector[i] = x[part * kWidth + i];
    __stcs(reinterpret_cast<uint4*>(row + group * kColumns + part * kWidth),
           pack_vector<T>(vector));
  }
}

template <class T, Rows kRows>
__device__ inline void store_columns(T* row, int group, int D, const float (&x)[kColumns]) {
  if constexpr (kRows == Rows::kSingle) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int column = group * kColumns + i;
      if (column < D) row[column] = from_float<T>(x[i]);
    }
  } else {
    store_group(row, group, x);
  }
}

/// Calls `function(std::type_identity<T>{})` with the device type of `dtype`, on the device.
template <class Function>
__device__ inline decltype(auto) as_type(DType dtype, Function&& function) {
  if (dtype == DType::kF16) return function(std::type_identity<__half>{});
  if (dtype == DType::kBF16) return function(std::type_identity<__nv_bfloat16>{});
  return function(std::type_identity<float>{});
}

/// As store_columns, to a row whose type only the run-time knows; `first` is its first element.
template <Rows kRows>
__device__ inline void store_columns_as(
    void* data, DType dtype, std::int64_t first, int group, int D, const float (&x)[kColumns]) {
  as_type(dtype, [&]<class T>(std::type_identity<T>) {
    store_columns<T, kRows>(static_cast<T*>(data) + first, group, D, x);
  });
}

/// As load_columns, from a row whose type only the run-time knows.
template <Rows kRows>
__device__ inline void load_columns_as(
    const void* data, DType dtype, std::int64_t first, int group, int D, float (&x)[kColumns]) {
  as_type(dtype, [&]<class T>(std::type_identity<T>) {
    load_columns<T, kRows>(static_cast<const T*>(data) + first, group, D, x);
  });
}

/// x[i] = from[i], in as few accesses as there can be; `from` is aligned to all of them together or to
/// 16 bytes.
template <int kCount>
__device__ inline void load_together(const float* from, float (&x)[kCount]) {
  if constexpr (kCount % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(from + i);
      x[i] = four.x, x[i + 1] = four.y, x[i + 2] = four.z, x[i + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) x[i] = from[i];
  }
}

/// fp32 rows whose groups are two halves of four columns, `groups` 16-byte vectors each: lanes that
/// read neighbouring groups touch neighbouring vectors, and no shared-memory bank twice.
__device__ inline void load_split(const float* row, int groups, int group, float (&x)[kColumns]) {
  const float4 low = reinterpret_cast<const float4*>(row)[group];
  const float4 high = reinterpret_cast<const float4*>(row)[groups + group];
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

__device__ inline void store_split(float* row, int groups, int group, const float (&x)[kColumns]) {
  reinterpret_cast<float4*>(row)[group] = make_float4(x[0], x[1], x[2], x[3]);
  reinterpret_cast<float4*>(row)[groups + group] = make_float4(x[4], x[5], x[6], x[7]);
}

}  // namespace attn::attnres
