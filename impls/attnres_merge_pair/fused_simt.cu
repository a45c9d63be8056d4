// The merge of two reads on CUDA cores: every row is read once.
//
// Adds:     both weights, the mix and the normaliser in one kernel.
// Mapping:  as the merge: a CTA has a token, a thread 16 columns (32 where D > 8192); CTAs go on to
//           further tokens, and many of them share an SM.
// Memory:   rows in registers; no shared memory, no barrier: the weights come from two scalars.
// Limit:    memory: 3 rows a token; about 3 D FLOP.
// Rounding: fp32, one rounding of each output.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include "harness/core/cuda_check.h"
#include "impls/attnres/merge_kernel.cuh"
#include "impls/attnres/read_config.h"
#include "reference/attnres_merge_pair/contract.h"

namespace attn::attnres_merge_pair {
namespace {

using attnres::HeldRow;
using attnres::kColumns;
using attnres::Rows;
using attnres::RowsOf;
using Problem = AttnResMergePair::Problem;
using Tensors = AttnResMergePair::Tensors;

struct Arguments {
  RowsOf read_a, read_b, out;
  const float *z_a, *z_b;
  float* lse;
  std::int64_t tokens;
  int D, groups;
};

template <class T, Rows kRows, int kGroups>
__global__ void __launch_bounds__(attnres::kMergeThreads)
    merge_pair_kernel(const __grid_constant__ Arguments p) {
  const attnres::Place place{static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x), p.groups,
                             p.D};
  for (std::int64_t token = blockIdx.x; token < p.tokens; token += gridDim.x) {
    HeldRow<T, kRows, kGroups> a;
    HeldRow<T, kRows, kGroups> b;
    a.load(place, p.read_a, token);
    b.load(place, p.read_b, token);
    const float z_a = p.z_a[token];
    const float z_b = p.z_b[token];
    const attnres::TwoWeights weights = attnres::two_weights(z_a, z_b);
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float x[kColumns];
      float merged[kColumns];
      b.columns(i, x);
      a.columns(i, merged);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) merged[c] = weights.other * merged[c] + weights.a * x[c];
      attnres::store_row_group<T, kRows>(place, p.out, token, i, merged);
    }
    if (place.thread == 0) p.lse[token] = attnres::two_lse(z_a, z_b);
  }
}

template <class T, Rows kRows, int kGroups>
struct Kernel {
  static auto value() { return merge_pair_kernel<T, kRows, kGroups>; }
};

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  const std::int64_t groups = attnres::column_groups(p.D);
  const bool vectors = attnres::has_vector_rows(t.read_a) && attnres::has_vector_rows(t.read_b) &&
                       attnres::has_vector_rows(t.out);
  const Arguments arguments{.read_a = attnres::rows_of(t.read_a),
                            .read_b = attnres::rows_of(t.read_b),
                            .out = attnres::rows_of(t.out),
                            .z_a = static_cast<const float*>(t.z_a.data),
                            .z_b = static_cast<const float*>(t.z_b.data),
                            .lse = static_cast<float*>(t.lse.data),
                            .tokens = p.tokens(),
                            .D = static_cast<int>(p.D),
                            .groups = static_cast<int>(groups)};
  const auto kernel = attnres::plane_kernel_for<Kernel>(p.dtype, vectors, groups);
  return attnres::resident_launch(kernel, arguments, p.tokens(), attnres::merge_threads(groups),
                                  device.sm_count, attnres::loads_note(vectors));
}

}  // namespace

extern const Backend<AttnResMergePair> fused_simt;
constinit const Backend<AttnResMergePair> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "one kernel, every row read once and kept in registers",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .plan = plan};

}  // namespace attn::attnres_merge_pair
