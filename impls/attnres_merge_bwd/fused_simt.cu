// The backward of the merge on CUDA cores: three rows in, two out, the query's gradient on the way.
//
// Adds:     weights and logits again from rows in registers; no scratch a token.
// Mapping:  as the merge: a CTA has a token, a thread 16 or 32 columns of every row, with a norm 8 up
//           to D = 4096. CTAs stay and go on
//           to further tokens: a thread keeps its columns of the query's gradient in registers, and a
//           second kernel adds the CTAs' shares in order.
// Memory:   rows in registers; 3 sums a warp in shared memory, of a norm 5 and two barriers more;
//           workspace: D floats a CTA, with a norm 2 D.
// Limit:    memory: 5 rows a token, one more where a gradient is added to, and with a norm beside the
//           output; about 16 D FLOP, 31 D with a norm.
// Rounding: fp32, one rounding of each output; the norm is that of the rounded row; repeats are bitwise equal.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include <algorithm>

#include "harness/core/cuda_check.h"
#include "impls/attnres/query_kernels.cuh"
#include "impls/attnres/read_config.h"
#include "impls/attnres_merge_bwd/fused_simt.h"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn::attnres_merge_bwd {
namespace {

using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;

int cta_threads(const Problem& p) {
  return attnres::merge_threads(attnres::column_groups(p.D),
                                p.has_norm() ? kNormGroups : kPlainGroups);
}

/// A share of the gradients of the query and of a norm's weight for every CTA that can be on the device.
std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  constexpr std::int64_t kThreadsPerSm = 2048;
  constexpr std::int64_t kCtasPerSm = 32;
  const std::int64_t groups = attnres::column_groups(p.D);
  const std::int64_t per_sm = std::min(kCtasPerSm, kThreadsPerSm / cta_threads(p));
  const std::int64_t ctas =
      std::min<std::int64_t>(p.tokens(), per_sm * std::max(1, device.sm_count));
  return static_cast<std::size_t>((p.has_norm() ? 2 : 1) * ctas * groups * 8) * sizeof(float);
}

/// Whether all rows that there are start on 16 bytes, with gradients of the rows' types.
bool has_vectors(const Problem& p, const Tensors& t) {
  bool vectors = p.grad_type() == p.dtype;
  for (const TensorView* view :
       {&t.partial, &t.wt, &t.read, &t.gamma, &t.dout, &t.dnormed, &t.dpartial, &t.dread})
    vectors = vectors && (!view->data || attnres::has_vector_rows(*view));
  return vectors;
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  const std::int64_t groups = attnres::column_groups(p.D);
  const bool vectors = has_vectors(p, t);
  const auto find = p.has_norm() ? simt_kernel_norm : simt_kernel;
  const SimtKernel kernel = find(p.dtype, p.out_type(), vectors, groups);
  const int threads = cta_threads(p);
  const int ctas = attnres::resident_ctas(kernel, threads, p.tokens(), device.sm_count);
  auto* shares = static_cast<float*>(workspace.data);
  const SimtArguments arguments{.merge = attnres::merge_arguments(p, t),
                                .dout = attnres::rows_of(t.dout),
                                .dnormed = attnres::rows_of(t.dnormed),
                                .dpartial = attnres::rows_of(t.dpartial),
                                .dread = attnres::rows_of(t.dread),
                                .gamma = attnres::rows_of(t.gamma),
                                .dlse = static_cast<const float*>(t.dlse.data),
                                .dz = static_cast<float*>(t.dz.data),
                                .dwt = shares,
                                .dgamma = shares + ctas * groups * 8,
                                .out_dtype = p.out_type(),
                                .norm_eps = static_cast<float>(p.norm_eps),
                                .add = p.dpartial == attnres::Store::kAdd};

  Launch launch;
  launch.note = attnres::loads_note(attnres::has_merge_vectors(p.dtype, p.out_type(), vectors));
  launch.kernels.push_back({reinterpret_cast<const void*>(kernel), 0, threads});
  launch.enqueue = [=](Stream stream) {
    const auto handle = static_cast<cudaStream_t>(stream.handle);
    if (ctas > 0) {
      kernel<<<ctas, threads, 0, handle>>>(arguments);
      CUDA_CHECK_LAUNCH();
    }
    attnres::enqueue_sums(p, t, arguments.dwt, arguments.dgamma, ctas, handle);
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
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_merge_bwd
