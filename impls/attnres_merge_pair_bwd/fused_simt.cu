// The backward of the merge of two reads on CUDA cores: three rows in, two out.
//
// Adds:     the weights again and one inner product a token, all in one kernel.
// Mapping:  as the merge: a CTA has a token, a thread 16 columns (32 where D > 8192); CTAs go on to
//           further tokens, and many of them share an SM.
// Memory:   rows in registers; one sum a warp in shared memory, one barrier a token.
// Limit:    memory: 5 rows a token; about 5 D FLOP.
// Rounding: fp32, one rounding of each output.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include "harness/core/cuda_check.h"
#include "impls/attnres/merge_kernel.cuh"
#include "impls/attnres/read_config.h"
#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn::attnres_merge_pair_bwd {
namespace {

using attnres::HeldRow;
using attnres::kColumns;
using attnres::Rows;
using attnres::RowsOf;
using Problem = AttnResMergePairBwd::Problem;
using Tensors = AttnResMergePairBwd::Tensors;

struct Arguments {
  RowsOf read_a, read_b, dout, dread_a, dread_b;
  const float *z_a, *z_b;
  const float* dlse;  // null without one
  float *dz_a, *dz_b;
  std::int64_t tokens;
  int D, groups;
};

template <class T, Rows kRows, int kGroups>
__global__ void __launch_bounds__(attnres::kMergeThreads)
    merge_pair_bwd_kernel(const __grid_constant__ Arguments p) {
  __shared__ float scratch[2 * attnres::kMergeThreads / 32];
  const auto thread = static_cast<int>(threadIdx.x);
  const auto threads = static_cast<int>(blockDim.x);
  const attnres::Team team = attnres::Team::of(thread, threads / 32);
  const attnres::Place place{thread, threads, p.groups, p.D};
  int parity = 0;
  for (std::int64_t token = blockIdx.x; token < p.tokens; token += gridDim.x, parity ^= 1) {
    HeldRow<T, kRows, kGroups> dout;
    float sums[1] = {};  // <dout, b - a>
    dout.load(place, p.dout, token);
    {
      HeldRow<T, kRows, kGroups> a;
      HeldRow<T, kRows, kGroups> b;
      a.load(place, p.read_a, token);
      b.load(place, p.read_b, token);
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        float x[kColumns];
        float y[kColumns];
        float d[kColumns];
        a.columns(i, x);
        b.columns(i, y);
        dout.columns(i, d);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) sums[0] += d[c] * (y[c] - x[c]);
      }
    }
    const attnres::TwoWeights weights = attnres::two_weights(p.z_a[token], p.z_b[token]);
    const float dlse = p.dlse ? p.dlse[token] : 0.0f;
    attnres::cta_sums(team, scratch, parity, sums);
    if (thread == 0) {
      const float q = weights.a * weights.other * sums[0];
      p.dz_a[token] = weights.other * dlse - q;
      p.dz_b[token] = weights.a * dlse + q;
    }
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float to_a[kColumns];
      float to_b[kColumns];
      dout.columns(i, to_b);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        to_a[c] = weights.other * to_b[c];
        to_b[c] *= weights.a;
      }
      attnres::store_row_group<T, kRows>(place, p.dread_a, token, i, to_a);
      attnres::store_row_group<T, kRows>(place, p.dread_b, token, i, to_b);
    }
  }
}

template <class T, Rows kRows, int kGroups>
struct Kernel {
  static auto value() { return merge_pair_bwd_kernel<T, kRows, kGroups>; }
};

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  const std::int64_t groups = attnres::column_groups(p.D);
  bool vectors = true;
  for (const TensorView* view : {&t.read_a, &t.read_b, &t.dout, &t.dread_a, &t.dread_b})
    vectors = vectors && attnres::has_vector_rows(*view);
  const Arguments arguments{.read_a = attnres::rows_of(t.read_a),
                            .read_b = attnres::rows_of(t.read_b),
                            .dout = attnres::rows_of(t.dout),
                            .dread_a = attnres::rows_of(t.dread_a),
                            .dread_b = attnres::rows_of(t.dread_b),
                            .z_a = static_cast<const float*>(t.z_a.data),
                            .z_b = static_cast<const float*>(t.z_b.data),
                            .dlse = static_cast<const float*>(t.dlse.data),
                            .dz_a = static_cast<float*>(t.dz_a.data),
                            .dz_b = static_cast<float*>(t.dz_b.data),
                            .tokens = p.tokens(),
                            .D = static_cast<int>(p.D),
                            .groups = static_cast<int>(groups)};
  const auto kernel = attnres::plane_kernel_for<Kernel>(p.dtype, vectors, groups);
  return attnres::resident_launch(kernel, arguments, p.tokens(), attnres::merge_threads(groups),
                                  device.sm_count, attnres::loads_note(vectors));
}

}  // namespace

extern const Backend<AttnResMergePairBwd> fused_simt;
constinit const Backend<AttnResMergePairBwd> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "one kernel, every row read once and kept in registers",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .plan = plan};

}  // namespace attn::attnres_merge_pair_bwd
