// The backward of the mix on CUDA cores: a token's rows are read once and stay in registers.
//
// Adds:     weights, output and its norm computed again from the rows; their gradients in one kernel.
// Mapping:  a CTA has a token, a thread eight columns of every row, and of the gradients of the query and of
//           the norm's weight; CTAs go on to further tokens, and a second kernel adds their shares in order.
// Memory:   up to 9 rows (5 in f32) in registers, with those that their gradients are added to; 3 sums a row
//           and warp in shared memory, one barrier a token, three with a norm. What no kernel holds is left to
//           ../attnres_phase1_bwd/fused_simt.cu, and with a norm comes from the caches several times.
//           Workspace: D floats a CTA for each of the two gradients, D more for rows from the caches.
// Limit:    memory: 2 N + 1 rows a token, one more for each gradient that is added to, one more with a norm
//           beside the output; 16 N D FLOP, (20 N + 12) D with a norm.
// Rounding: fp32, one rounding of each output; the norm is that of the rounded row; repeats are bitwise
//           equal.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include <algorithm>
#include <string>

#include "harness/core/cuda_check.h"
#include "impls/attnres/merge_kernel.cuh"
#include "impls/attnres/mix_layout.h"
#include "impls/attnres/query_kernels.cuh"
#include "impls/attnres_mix_bwd/simt_arguments.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {
namespace attnres_phase1_bwd {
extern const Backend<AttnResPhase1Bwd> fused_simt;
}  // namespace attnres_phase1_bwd

namespace attnres_mix_bwd {
namespace {

using Problem = AttnResMixBwd::Problem;
using Tensors = AttnResMixBwd::Tensors;

AttnResPhase1Bwd::Problem read_of(const Problem& p) {
  AttnResPhase1Bwd::Problem read;
  static_cast<attnres::ReadGradients&>(read) = attnres::one_query(p);
  return read;
}

Launch plan_read(const Problem& p,
                 const Tensors& t,
                 Workspace workspace,
                 const DeviceInfo& device) {
  AttnResPhase1Bwd::Tensors tensors;
  static_cast<attnres::GradientTensors&>(tensors) = t;
  tensors.dout = t.dout;
  return attnres_phase1_bwd::fused_simt.plan(read_of(p), tensors, workspace, device);
}

struct Choice {
  SimtKernel kernel;  // null: phase 1's
  int threads;
  std::string note;
};

/// Rows in registers have one type.
Choice choose(const Problem& p, const Tensors& t) {
  const bool vectors = has_vectors(p, t);
  const attnres::HeldLayout held = attnres::choose_held(attnres::held_needs(p));
  if (vectors && held.sources > 0 && p.grad_type() == p.dtype && p.out_type() == p.dtype) {
    if (const SimtKernel kernel = held_kernel(p.dtype, held.sources, p.has_norm()))
      return {kernel, held.threads, std::to_string(held.sources) + " rows in registers"};
  }
  if (!p.has_norm()) return {};
  const auto threads = static_cast<int>(
      std::min<std::int64_t>(attnres::kHeldThreads, (attnres::column_groups(p.D) + 31) / 32 * 32));
  return {cached_norm_kernel(vectors), threads,
          vectors ? "rows from the caches, 16-byte loads" : "rows from the caches, scalar loads"};
}

Support supports(const Problem& p, const DeviceInfo& device) {
  return attnres_phase1_bwd::fused_simt.supports(read_of(p), device);
}

/// Shares of gradients for every CTA that can be on the device; or what phase 1 needs.
std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  constexpr std::int64_t kThreadsPerSm = 2048;
  constexpr std::int64_t kCtasPerSm = 32;
  const std::int64_t groups = attnres::column_groups(p.D);
  const std::int64_t threads =
      std::min<std::int64_t>(attnres::kHeldThreads, (groups + 31) / 32 * 32);
  const std::int64_t per_sm = std::min(kCtasPerSm, kThreadsPerSm / threads);
  const std::int64_t ctas =
      std::min<std::int64_t>(p.tokens(), per_sm * std::max(1, device.sm_count));
  const std::int64_t areas = p.has_norm() ? kNormAreas : 1;
  return std::max(static_cast<std::size_t>(areas * ctas * groups * 8) * sizeof(float),
                  attnres_phase1_bwd::fused_simt.workspace_bytes(read_of(p), device));
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  const Choice choice = choose(p, t);
  if (!choice.kernel) return plan_read(p, t, workspace, device);
  const int ctas =
      attnres::resident_ctas(choice.kernel, choice.threads, p.tokens(), device.sm_count);
  const SimtArguments arguments = simt_arguments(p, t, static_cast<float*>(workspace.data), ctas);

  Launch launch;
  launch.note = choice.note;
  launch.kernels.push_back({reinterpret_cast<const void*>(choice.kernel), 0, choice.threads});
  launch.enqueue = [=](Stream stream) {
    const auto handle = static_cast<cudaStream_t>(stream.handle);
    if (ctas > 0) {
      choice.kernel<<<ctas, choice.threads, 0, handle>>>(arguments);
      CUDA_CHECK_LAUNCH();
    }
    attnres::enqueue_sums(p, t, arguments.dwt, arguments.dgamma, ctas, handle);
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMixBwd> fused_simt;
constinit const Backend<AttnResMixBwd> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "rows in registers, weights, output and norm computed again",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attnres_mix_bwd
}  // namespace attn
