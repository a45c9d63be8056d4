// The merge on CUDA cores: every row is read once and stays in registers.
//
// Adds:     the sum, its logit, both weights and the merged row in one kernel.
// Mapping:  a CTA has a token, a thread 16 columns (32 where D > 8192), so 128 threads at D = 2048;
//           CTAs go on to further tokens, and many of them share an SM: their loads overlap.
// Memory:   rows in registers; 2 sums a warp in shared memory, one barrier a token.
// Limit:    memory: 3 rows a token, 5 with an update; about 7 D FLOP.
// Rounding: fp32; the updated sum is rounded before anything reads it; one rounding of each output.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include "harness/core/cuda_check.h"
#include "impls/attnres/merge_kernel.cuh"
#include "impls/attnres/read_config.h"
#include "reference/attnres_merge/contract.h"

namespace attn::attnres_merge {
namespace {

using attnres::HeldRow;
using attnres::kColumns;
using attnres::Rows;
using attnres::RowsOf;
using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;

struct Arguments {
  attnres::MergeArguments merge;
  RowsOf update, out, sum;  // update and sum: null without one
  float* lse;               // null without one
};

/// Adds the update, rounds and stores the sum.
template <class T, Rows kRows, int kGroups>
__device__ void add_update(const Arguments& p,
                           const attnres::Place& place,
                           std::int64_t token,
                           const HeldRow<T, kRows, kGroups>& update,
                           HeldRow<T, kRows, kGroups>& b) {
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    float sum[kColumns];
    float added[kColumns];
    b.columns(i, sum);
    update.columns(i, added);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sum[c] += added[c];
    if constexpr (kRows == Rows::kSingle) attnres::round_columns(p.merge.partial.dtype, sum);
    b.set_columns(i, sum);
    attnres::store_row_group<T, kRows>(place, p.sum, token, i, sum);
  }
}

template <class T, class U, Rows kRows, int kGroups>
__global__ void __launch_bounds__(attnres::kMergeThreads)
    merge_kernel(const __grid_constant__ Arguments p) {
  __shared__ float scratch[2 * 2 * attnres::kMergeThreads / 32];
  const attnres::MergeArguments& m = p.merge;
  const auto thread = static_cast<int>(threadIdx.x);
  const auto threads = static_cast<int>(blockDim.x);
  const attnres::Team team = attnres::Team::of(thread, threads / 32);
  const attnres::Place place{thread, threads, m.groups, m.D};
  HeldRow<float, Rows::kSingle, kGroups> w;
  w.load(place, m.wt, 0);
  int parity = 0;
  for (std::int64_t token = blockIdx.x; token < m.tokens; token += gridDim.x, parity ^= 1) {
    HeldRow<T, kRows, kGroups> b;
    HeldRow<U, kRows, kGroups> read;
    b.load(place, m.partial, token);
    read.load(place, m.read, token);
    const float z = m.z[token];
    if (p.update.data) {
      HeldRow<T, kRows, kGroups> update;
      update.load(place, p.update, token);
      add_update(p, place, token, update, b);
    }
    float sums[2] = {};  // squares, the product with the query
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float x[kColumns];
      float query[kColumns];
      b.columns(i, x);
      w.columns(i, query);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        sums[0] += x[c] * x[c];
        sums[1] += query[c] * x[c];
      }
    }
    attnres::cta_sums(team, scratch, parity, sums);
    const auto weights = attnres::merge_weights(sums[0], sums[1], z, m.D, m.eps);
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float x[kColumns];
      float merged[kColumns];
      b.columns(i, x);
      read.columns(i, merged);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) merged[c] = weights.other * merged[c] + weights.a * x[c];
      attnres::store_row_group<U, kRows>(place, p.out, token, i, merged);
    }
    if (p.lse && thread == 0) p.lse[token] = attnres::two_lse(z, weights.l);
  }
}

template <class T, class U, Rows kRows, int kGroups>
struct Kernel {
  static auto value() { return merge_kernel<T, U, kRows, kGroups>; }
};

Support supports(const Problem& p, const DeviceInfo&) {
  if (p.has_norm()) return Support::no("norm must be off");
  return Support::yes();
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  const std::int64_t groups = attnres::column_groups(p.D);
  const bool aligned =
      attnres::has_vector_rows(t.partial) && attnres::has_vector_rows(t.read) &&
      attnres::has_vector_rows(t.out) &&
      (!t.update.data || (attnres::has_vector_rows(t.update) && attnres::has_vector_rows(t.sum)));
  const Arguments arguments{.merge = attnres::merge_arguments(p, t),
                            .update = attnres::rows_of(t.update),
                            .out = attnres::rows_of(t.out),
                            .sum = attnres::rows_of(t.sum),
                            .lse = static_cast<float*>(t.lse.data)};
  const auto kernel = attnres::merge_kernel_for<Kernel>(p.dtype, p.out_type(), aligned, groups);
  const int threads = attnres::merge_threads(groups);
  const int ctas = attnres::resident_ctas(kernel, threads, p.tokens(), device.sm_count);

  Launch launch;
  launch.note =
      attnres::has_merge_vectors(p.dtype, p.out_type(), aligned) ? "16-byte loads" : "scalar loads";
  launch.kernels.push_back({reinterpret_cast<const void*>(kernel), 0, threads});
  launch.enqueue = [=](Stream stream) {
    if (ctas == 0) return;
    kernel<<<ctas, threads, 0, static_cast<cudaStream_t>(stream.handle)>>>(arguments);
    CUDA_CHECK_LAUNCH();
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMerge> fused_simt;
constinit const Backend<AttnResMerge> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "one kernel, every row read once and kept in registers",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .plan = plan};

}  // namespace attn::attnres_merge
