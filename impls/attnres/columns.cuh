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

/// A group as it lies in memory. Nothing is converted before it is used, so that the loads of several rows
/// are in flight together.
template <class T>
struct HeldGroup {
  uint4 raw[kGroupVectors<T>];

  /// Group `group` of a row that starts on 16 bytes; zeros where it is not `wanted`: a branch around the
  /// loads would make them wait for others.
  __device__ void load(const T* row, int group, bool wanted) {
#pragma unroll
    for (int part = 0; part < kGroupVectors<T>; ++part) {
      raw[part] = make_uint4(0, 0, 0, 0);
      if (wanted) raw[part] = reinterpret_cast<const uint4*>(row + group * kColumns)[part];
    }
  }
  __device__ void columns(float (&x)[kColumns]) const {
    constexpr int kWidth = kVectorElements<T>;
#pragma unroll
    for (int part = 0; part < kGroupVectors<T>; ++part) {
      float vector[kWidth];
      unpack_vector<T>(raw[part], vector);
#pragma unroll
      for (int c = 0; c < kWidth; ++c) x[part * kWidth + c] = vector[c];
    }
  }
  /// Makes the bytes opaque: between two uses of `columns`, the compiler would keep what it has converted,
  /// in twice as many registers.
  __device__ void forget_columns() {
#pragma unroll
    for (uint4& part : raw)
      asm volatile("" : "+r"(part.x), "+r"(part.y), "+r"(part.z), "+r"(part.w));
  }
  /// Rounds to T.
  __device__ void set_columns(const float (&x)[kColumns]) {
    constexpr int kWidth = kVectorElements<T>;
#pragma unroll
    for (int part = 0; part < kGroupVectors<T>; ++part) {
      float vector[kWidth];
#pragma unroll
      for (int c = 0; c < kWidth; ++c) vector[c] = x[part * kWidth + c];
      raw[part] = pack_vector<T>(vector);
    }
  }
  /// To a row that starts on 16 bytes, past the caches: nobody reads it soon.
  __device__ void store(T* row, int group) const {
#pragma unroll
    for (int part = 0; part < kGroupVectors<T>; ++part)
      __stcs(reinterpret_cast<uint4*>(row + group * kColumns) + part, raw[part]);
  }
  /// The same as L2 likes to keep it: memory is the faster for it where many rows are written at a time.
  __device__ void store_cached(T* row, int group) const {
#pragma unroll
    for (int part = 0; part < kGroupVectors<T>; ++part)
      reinterpret_cast<uint4*>(row + group * kColumns)[part] = raw[part];
  }
};

template <class T>
__device__ inline void store_group(T* row, int group, const float (&x)[kColumns]) {
  HeldGroup<T> held;
  held.set_columns(x);
  held.store(row, group);
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

/// As HeldGroup, of a row whose type only the run-time knows.
struct HeldAnyGroup {
  uint4 raw[2];

  __device__ void load(const void* row, DType dtype, int group, bool wanted) {
    const auto bytes = static_cast<int>(dtype == DType::kF32 ? sizeof(float) : sizeof(__half));
    const char* from = static_cast<const char*>(row) + group * kColumns * bytes;
    raw[0] = raw[1] = make_uint4(0, 0, 0, 0);
    if (wanted) raw[0] = reinterpret_cast<const uint4*>(from)[0];
    if (wanted && dtype == DType::kF32) raw[1] = reinterpret_cast<const uint4*>(from)[1];
  }
  __device__ void columns(DType dtype, float (&x)[kColumns]) const {
    as_type(dtype, [&]<class T>(std::type_identity<T>) {
      HeldGroup<T> group;
#pragma unroll
      for (int part = 0; part < kGroupVectors<T>; ++part) group.raw[part] = raw[part];
      group.columns(x);
    });
  }
};

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

/// Every column as a tensor of `dtype` holds it.
__device__ inline void round_columns(DType dtype, float (&x)[kColumns]) {
  as_type(dtype, [&]<class T>(std::type_identity<T>) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) x[c] = to_float(from_float<T>(x[c]));
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
