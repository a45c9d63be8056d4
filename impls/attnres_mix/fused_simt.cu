// The mix on CUDA cores: a token's rows are read once and stay in registers.
//
// Adds:     update, logits, softmax, mixed row, its norm and the weights in one kernel, without workspace;
//           a plain mix of few sources is phase 1's (staged_read.h).
// Mapping:  a CTA has a token, a thread eight columns of every row, so 256 threads at D = 2048; CTAs go on
//           to further tokens, and several of them share an SM: their loads overlap.
// Memory:   up to 16 rows (9 in f32) in registers, 2 sums a row and warp in shared memory, a barrier a
//           token and one for a norm. What no kernel holds (more rows, D > 4096, addresses off 16 bytes)
//           comes from the caches twice.
// Limit:    memory: N + 1 rows a token, two more with an update, one more with a norm beside the output;
//           6 N D FLOP.
// Rounding: fp32, reciprocal RMS within 2 ulp (rsqrt); the updated source is rounded before anything reads
//           it; one rounding of each output; the norm is that of the rounded row.
// Source:   reference/attnres/README.md.
#include <cuda_runtime.h>

#include <string>

#include "harness/core/cuda_check.h"
#include "impls/attnres_mix/cached_kernel.cuh"
#include "impls/attnres_mix/held_kernel.cuh"
#include "impls/attnres_mix/staged_read.h"

namespace attn::attnres_mix {
namespace {

using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;

/// As many CTAs of `kernel` as stay on the device together, at most one a token.
template <class Arguments>
Launch resident_launch(void (*kernel)(Arguments),
                       const Arguments& arguments,
                       int threads,
                       const DeviceInfo& device) {
  const int ctas = attnres::resident_ctas(kernel, threads, arguments.tokens, device.sm_count);
  Launch launch;
  launch.kernels.push_back({reinterpret_cast<const void*>(kernel), 0, threads});
  launch.enqueue = [=](Stream stream) {
    if (ctas == 0) return;
    kernel<<<ctas, threads, 0, static_cast<cudaStream_t>(stream.handle)>>>(arguments);
    CUDA_CHECK_LAUNCH();
  };
  return launch;
}

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  if (reads_staged(p, device)) return plan_staged(p, t, workspace, device);
  const bool vectors = has_vectors(p, t);
  const attnres::HeldLayout held = attnres::choose_held(attnres::held_needs(p));
  if (vectors && held.sources > 0) {
    Launch launch = resident_launch(held_kernel_for<OneCta, false>(p.dtype, held.sources),
                                    held_arguments(p, t), held.threads, device);
    launch.note = std::to_string(held.sources) + " rows in registers";
    return launch;
  }
  Launch launch = resident_launch(cached_kernel_for(p.dtype, vectors), cached_arguments(p, t),
                                  cached_threads(attnres::column_groups(p.D)), device);
  launch.note =
      vectors ? "rows from the caches, 16-byte loads" : "rows from the caches, scalar loads";
  return launch;
}

}  // namespace

extern const Backend<AttnResMix> fused_simt;
constinit const Backend<AttnResMix> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "one kernel, every row read once and kept in registers",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .workspace_bytes = staged_workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_mix
