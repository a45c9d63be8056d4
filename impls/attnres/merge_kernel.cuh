// What the merge's kernels share: a CTA has one token, its rows in registers; its warps add sums up.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "harness/core/backend.h"
#include "harness/core/cuda_check.h"
#include "impls/attnres/columns.cuh"
#include "impls/attnres/team.cuh"
#include "impls/attnres/two_weights.h"
#include "reference/attnres/contract.h"

namespace attn::attnres {

inline constexpr int kMergeThreads = 512;  // at most: 128 registers each

struct MergeArguments {
  RowsOf partial, wt, read;
  const float* z;
  std::int64_t tokens;
  int D;
  int groups;  // of eight columns
  float eps;
};

/// The tensors that the merge and its backward both read.
template <class Problem, class Tensors>
MergeArguments merge_arguments(const Problem& p, const Tensors& t) {
  return {.partial = rows_of(t.partial),
          .wt = rows_of(t.wt),
          .read = rows_of(t.read),
          .z = static_cast<const float*>(t.z.data),
          .tokens = p.tokens(),
          .D = static_cast<int>(p.D),
          .groups = static_cast<int>((p.D + kColumns - 1) / kColumns),
          .eps = static_cast<float>(p.eps)};
}

/// Which of the thread's groups are in the row, and where: groups thread, thread + threads, ...
struct Place {
  int thread, threads, groups, D;

  __device__ int group(int i) const { return thread + i * threads; }
  __device__ bool has(int i) const { return group(i) < groups; }
};

/// Loads the thread's group i of row `token`; zeros beyond the row.
template <Rows kRows>
__device__ inline void load_row_group(
    const Place& place, const RowsOf& rows, std::int64_t token, int i, float (&x)[kColumns]) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c) x[c] = 0;
  if (place.has(i))
    load_columns_as<kRows>(rows.data, rows.dtype, token * place.D, place.group(i), place.D, x);
}

/// One row's columns of this thread, as they lie in memory; beyond the row zeros. Single rows, of any type,
/// are held as fp32: T is float.
template <class T, Rows kRows, int kGroups>
struct HeldRow {
  HeldGroup<T> held[kGroups];

  /// Zeros where the row is not `wanted`.
  __device__ void load(const Place& place,
                       const RowsOf& rows,
                       std::int64_t token,
                       bool wanted = true) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      if constexpr (kRows == Rows::kSingle) {
        float x[kColumns] = {};
        if (wanted) load_row_group<kRows>(place, rows, token, i, x);
        set_columns(i, x);
      } else {
        held[i].load(static_cast<const T*>(rows.data) + token * place.D, place.group(i),
                     wanted && place.has(i));
      }
    }
  }
  __device__ void columns(int i, float (&x)[kColumns]) const { held[i].columns(x); }
  /// Rounds to T.
  __device__ void set_columns(int i, const float (&x)[kColumns]) { held[i].set_columns(x); }
};

/// Stores the thread's group i of row `token`; nothing beyond the row.
template <class T, Rows kRows>
__device__ inline void store_row_group(
    const Place& place, const RowsOf& rows, std::int64_t token, int i, const float (&x)[kColumns]) {
  if (!place.has(i)) return;
  const std::int64_t first = token * place.D;
  if constexpr (kRows == Rows::kSingle) {
    store_columns_as<kRows>(rows.data, rows.dtype, first, place.group(i), place.D, x);
  } else {
    store_group(static_cast<T*>(rows.data) + first, place.group(i), x);
  }
}

/// Sums over the CTA. `scratch` holds [2, warps, kCount]; the calls of a loop alternate its halves, so
/// that one barrier a call is enough: a warp that is a call ahead writes the other half.
template <int kCount>
__device__ inline void cta_sums(const Team& team,
                                float* scratch,
                                int parity,
                                float (&values)[kCount]) {
  float* partials = scratch + parity * team.warps * kCount;
  store_warp_sums(values, team.lane, partials + team.warp * kCount, [](int i) { return i; });
  __syncthreads();  // all warps: every partial sum is there
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    values[i] = partials[i];
    for (int warp = 1; warp < team.warps; ++warp) values[i] += partials[warp * kCount + i];
  }
}

/// The two weights of a merge.
struct MergeWeights : TwoWeights {
  float r, l;  // reciprocal RMS and logit of the partial sum
};

__device__ inline MergeWeights merge_weights(
    float squares, float product, float z, int D, float eps) {
  const float r = 1.0f / sqrtf(squares / static_cast<float>(D) + eps);
  const float l = r * product;
  return {two_weights(z, l), r, l};
}

/// Groups of a thread, at least so many, and threads of the CTA, for rows of `groups` groups.
inline int merge_groups(std::int64_t groups, int least = 2) {
  while (least < 4 && groups > std::int64_t{least} * kMergeThreads) least *= 2;
  return least;
}
inline int merge_threads(std::int64_t groups, int least = 2) {
  const std::int64_t per_warp = 32 * merge_groups(groups, least);
  return static_cast<int>(32 * ((groups + per_warp - 1) / per_warp));
}

/// CTAs that stay on the device together, at most one a token.
template <class Arguments>
int resident_ctas(void (*kernel)(Arguments), int threads, std::int64_t tokens, int sm_count) {
  int per_sm = 0;
  CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kernel, threads, 0));
  return static_cast<int>(
      std::min<std::int64_t>(tokens, std::int64_t{std::max(1, per_sm)} * std::max(1, sm_count)));
}

/// For a row's note.
inline const char* loads_note(bool vectors) { return vectors ? "16-byte loads" : "scalar loads"; }

/// One launch of such CTAs.
template <class Arguments>
Launch resident_launch(void (*kernel)(Arguments),
                       const Arguments& arguments,
                       std::int64_t tokens,
                       int threads,
                       int sm_count,
                       std::string note) {
  const int ctas = resident_ctas(kernel, threads, tokens, sm_count);
  Launch launch;
  launch.note = std::move(note);
  launch.kernels.push_back({reinterpret_cast<const void*>(kernel), 0, threads});
  launch.enqueue = [=](Stream stream) {
    if (ctas == 0) return;
    kernel<<<ctas, threads, 0, static_cast<cudaStream_t>(stream.handle)>>>(arguments);
    CUDA_CHECK_LAUNCH();
  };
  return launch;
}

/// The kernel among Kernel<T, U, rows, groups>::value that takes partial sums of T and mixed rows of U.
/// 16-byte vectors for equal types and fp32 sums; all else goes one element at a time.
template <template <class, class, Rows, int> class Kernel, int kLeast = 2>
auto merge_kernel_for(DType partial, DType out, bool vectors, std::int64_t groups) {
  const auto sized = [&]<class T, class U, Rows kRows>() {
    const int per_thread = merge_groups(groups, kLeast);
    if (per_thread == kLeast) return Kernel<T, U, kRows, kLeast>::value();
    return per_thread == 2 ? Kernel<T, U, kRows, 2>::value() : Kernel<T, U, kRows, 4>::value();
  };
  if (vectors && partial == DType::kF32 && out == DType::kF32)
    return sized.template operator()<float, float, Rows::kDirect>();
  if (vectors && partial == DType::kF32 && out == DType::kBF16)
    return sized.template operator()<float, __nv_bfloat16, Rows::kDirect>();
  if (vectors && partial == DType::kF32 && out == DType::kF16)
    return sized.template operator()<float, __half, Rows::kDirect>();
  if (vectors && partial == DType::kBF16 && out == DType::kBF16)
    return sized.template operator()<__nv_bfloat16, __nv_bfloat16, Rows::kDirect>();
  if (vectors && partial == DType::kF16 && out == DType::kF16)
    return sized.template operator()<__half, __half, Rows::kDirect>();
  return sized.template operator()<float, float, Rows::kSingle>();
}

/// The kernel among Kernel<T, rows, groups>::value for planes that are all of type T.
template <template <class, Rows, int> class Kernel>
auto plane_kernel_for(DType dtype, bool vectors, std::int64_t groups) {
  const auto sized = [&]<class T, Rows kRows>() {
    return merge_groups(groups) == 2 ? Kernel<T, kRows, 2>::value() : Kernel<T, kRows, 4>::value();
  };
  if (!vectors) return sized.template operator()<float, Rows::kSingle>();
  if (dtype == DType::kBF16) return sized.template operator()<__nv_bfloat16, Rows::kDirect>();
  if (dtype == DType::kF16) return sized.template operator()<__half, Rows::kDirect>();
  return sized.template operator()<float, Rows::kDirect>();
}

/// Whether merge_kernel_for uses vectors: the note of a row says so.
inline bool has_merge_vectors(DType partial, DType out, bool vectors) {
  return vectors && (partial == out || partial == DType::kF32);
}

}  // namespace attn::attnres
