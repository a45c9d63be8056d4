// The backward of the merge on CUDA cores: three rows in, two out, the query's gradient on the way.
//
// Adds:     weights and logits again from rows in registers; no scratch a token.
// Mapping:  as the merge: a CTA has a token, a thread 16 or 32 columns of every row. CTAs stay and go on
//           to further tokens: a thread keeps its columns of the query's gradient in registers, and a
//           second kernel adds the CTAs' shares in order.
// Memory:   rows in registers; 3 sums a warp in shared memory; workspace: D floats a CTA.
// Limit:    memory: 5 rows a token, 6 where a gradient is added to; about 16 D FLOP.
// Rounding: fp32, one rounding of each output; repeats are bitwise equal.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include <algorithm>

#include "harness/core/cuda_check.h"
#include "impls/attnres/merge_kernel.cuh"
#include "impls/attnres/query_kernels.cuh"
#include "impls/attnres/read_config.h"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn::attnres_merge_bwd {
namespace {

using attnres::HeldRow;
using attnres::kColumns;
using attnres::Rows;
using attnres::RowsOf;
using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;

struct Arguments {
  attnres::MergeArguments merge;
  RowsOf dout, dpartial, dread;
  const float* dlse;  // null without one
  float* dz;
  float* partials;  // [CTAs, 2, groups, 4]: split rows
  bool add;         // to dpartial
};

template <class T, class U, Rows kRows, int kGroups>
__global__ void __launch_bounds__(attnres::kMergeThreads)
    merge_bwd_kernel(const __grid_constant__ Arguments p) {
  __shared__ float scratch[2 * 3 * attnres::kMergeThreads / 32];
  const attnres::MergeArguments& m = p.merge;
  const auto thread = static_cast<int>(threadIdx.x);
  const auto threads = static_cast<int>(blockDim.x);
  const attnres::Team team = attnres::Team::of(thread, threads / 32);
  const attnres::Place place{thread, threads, m.groups, m.D};
  HeldRow<float, Rows::kSingle, kGroups> w;
  w.load(place, m.wt, 0);
  float dw[kGroups][kColumns] = {};
  int parity = 0;
  for (std::int64_t token = blockIdx.x; token < m.tokens; token += gridDim.x, parity ^= 1) {
    HeldRow<T, kRows, kGroups> b;
    HeldRow<U, kRows, kGroups> dout;
    HeldRow<T, kRows, kGroups> held;  // what dpartial is added to
    float sums[3] = {};               // squares, the product with the query, <dout, b - read>
    b.load(place, m.partial, token);
    dout.load(place, p.dout, token);
    {
      HeldRow<U, kRows, kGroups> read;
      read.load(place, m.read, token);
      held.load(place, p.dpartial, token, p.add);
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        float x[kColumns];
        float query[kColumns];
        float mixed[kColumns];
        float d[kColumns];
        b.columns(i, x);
        w.columns(i, query);
        read.columns(i, mixed);
        dout.columns(i, d);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          sums[0] += x[c] * x[c];
          sums[1] += query[c] * x[c];
          sums[2] += d[c] * (x[c] - mixed[c]);
        }
      }
    }
    const float z = m.z[token];
    const float dlse = p.dlse ? p.dlse[token] : 0.0f;
    attnres::cta_sums(team, scratch, parity, sums);
    const auto weights = attnres::merge_weights(sums[0], sums[1], z, m.D, m.eps);
    const float q = weights.a * weights.other * sums[2];
    const float dl = q + weights.a * dlse;
    if (thread == 0) p.dz[token] = weights.other * dlse - q;

    const float through = dl * weights.r;
    const float back = dl * weights.l * weights.r * weights.r / static_cast<float>(m.D);
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      float x[kColumns];
      float query[kColumns];
      float d[kColumns];
      float dread[kColumns];
      float dpartial[kColumns];
      b.columns(i, x);
      w.columns(i, query);
      dout.columns(i, d);
      held.columns(i, dpartial);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        dread[c] = weights.other * d[c];
        dw[i][c] += through * x[c];
        dpartial[c] += weights.a * d[c] + (through * query[c] - back * x[c]);
      }
      attnres::store_row_group<U, kRows>(place, p.dread, token, i, dread);
      attnres::store_row_group<T, kRows>(place, p.dpartial, token, i, dpartial);
    }
  }
  float* share = p.partials + static_cast<std::int64_t>(blockIdx.x) * m.groups * 8;
#pragma unroll
  for (int i = 0; i < kGroups; ++i) {
    if (place.has(i)) attnres::store_split(share, m.groups, place.group(i), dw[i]);
  }
}

template <class T, class U, Rows kRows, int kGroups>
struct Kernel {
  static auto value() { return merge_bwd_kernel<T, U, kRows, kGroups>; }
};

Support supports(const Problem& p, const DeviceInfo&) {
  if (p.has_norm()) return Support::no("norm must be off");
  return Support::yes();
}

/// A share of the query's gradient for every CTA that can be on the device.
std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  constexpr std::int64_t kThreadsPerSm = 2048;
  constexpr std::int64_t kCtasPerSm = 32;
  const std::int64_t groups = attnres::column_groups(p.D);
  const std::int64_t per_sm = std::min(kCtasPerSm, kThreadsPerSm / attnres::merge_threads(groups));
  const std::int64_t ctas =
      std::min<std::int64_t>(p.tokens(), per_sm * std::max(1, device.sm_count));
  return static_cast<std::size_t>(ctas * groups * 8) * sizeof(float);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  const std::int64_t groups = attnres::column_groups(p.D);
  bool vectors = p.grad_type() == p.dtype;
  for (const TensorView* view : {&t.partial, &t.read, &t.dout, &t.dpartial, &t.dread})
    vectors = vectors && attnres::has_vector_rows(*view);
  auto* partials = static_cast<float*>(workspace.data);
  const Arguments arguments{.merge = attnres::merge_arguments(p, t),
                            .dout = attnres::rows_of(t.dout),
                            .dpartial = attnres::rows_of(t.dpartial),
                            .dread = attnres::rows_of(t.dread),
                            .dlse = static_cast<const float*>(t.dlse.data),
                            .dz = static_cast<float*>(t.dz.data),
                            .partials = partials,
                            .add = p.dpartial == attnres::Store::kAdd};
  const auto kernel = attnres::merge_kernel_for<Kernel>(p.dtype, p.out_type(), vectors, groups);
  const int threads = attnres::merge_threads(groups);
  const int ctas = attnres::resident_ctas(kernel, threads, p.tokens(), device.sm_count);

  Launch launch;
  launch.note =
      attnres::has_merge_vectors(p.dtype, p.out_type(), vectors) ? "16-byte loads" : "scalar loads";
  launch.kernels.push_back({reinterpret_cast<const void*>(kernel), 0, threads});
  launch.enqueue = [=](Stream stream) {
    const auto handle = static_cast<cudaStream_t>(stream.handle);
    if (ctas > 0) {
      kernel<<<ctas, threads, 0, handle>>>(arguments);
      CUDA_CHECK_LAUNCH();
    }
    attnres::enqueue_sum(partials, ctas, 1, p.D, p.dwt, static_cast<float*>(t.dwt.data), handle);
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMergeBwd> fused_simt;
constinit const Backend<AttnResMergeBwd> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "rows in registers, the query's gradient in registers and in order",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_merge_bwd
