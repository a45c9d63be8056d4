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
#include <utility>

#include "impls/attnres/merge_kernel.cuh"
#include "impls/attnres_mix/cached_kernel.cuh"
#include "impls/attnres_mix/held_kernel.cuh"
#include "impls/attnres_mix/staged_read.h"

namespace attn::attnres_mix {
namespace {

using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  if (reads_staged(p, device)) return plan_staged(p, t, workspace, device);
  const bool vectors = has_vectors(p, t);
  const attnres::HeldLayout held = attnres::choose_held(attnres::held_needs(p));
  const auto launch = [&](auto kernel, const auto& arguments, int threads, std::string note) {
    return attnres::resident_launch(kernel, arguments, p.tokens(), threads, device.sm_count,
                                    std::move(note));
  };
  if (vectors && held.sources > 0)
    return launch(held_kernel_for<OneCta, false>(p.dtype, held.sources), held_arguments(p, t),
                  held.threads, std::to_string(held.sources) + " rows in registers");
  return launch(cached_kernel_for(p.dtype, vectors), cached_arguments(p, t),
                cached_threads(attnres::column_groups(p.D)),
                std::string("rows from the caches, ") + attnres::loads_note(vectors));
}

}  // namespace

extern const Backend<AttnResMix> fused_simt;
constinit const Backend<AttnResMix> fused_simt = {
    .info = {.id = "fused_simt",
             .summary = "one kernel, every row read once and kept in registers",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = staged_workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_mix
