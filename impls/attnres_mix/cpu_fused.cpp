// The mix on a CPU: every source row is read once, and the output's norm follows in the cache.
//
// Computes   per token: the sources widen to fp32, the last one after its update; logits, softmax over
//            depth, the mixed row and its norm follow from there.
// Mapping    chunks of tokens -> threads; the result depends on neither.
// Memory     workspace: the query and the norm's weight in fp32, and (N + 1) D + 2 N floats a thread.
// Limit      memory: N + 1 rows a token, two more with an update, one more with a norm beside the output.
// Rounding   fp32, one rounding of each output; the norm is that of the rounded row.
// Source     reference/attnres/README.md.
#include <algorithm>
#include <cstdint>

#include "impls/attnres/cpu_norm.h"
#include "impls/attnres/cpu_rows.h"
#include "reference/attnres_mix/contract.h"

namespace attn::attnres_mix {
namespace {

using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;
using attnres::element;
using attnres::Option;

attnres::CpuScratch scratch_of(const Problem& p) {
  return {.shared_floats = 2 * p.D, .thread_floats = (p.N + 1) * p.D + 2 * p.N};
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

/// `shared`: the query [D], the norm's weight [D]; `scratch`: v [N, D], a mixed row [D], r [N], weights [N].
void mix_token(
    const Problem& p, const Tensors& tensors, const float* shared, std::int64_t t, float* scratch) {
  float* v = scratch;
  float* mixed = v + p.N * p.D;
  float* r = mixed + p.D;
  float* weights = r + p.N;
  attnres::load_sources(tensors.v, p, t, v, r);
  if (p.update == Option::kOn) {
    float* last = v + (p.N - 1) * p.D;
    attnres::add_update(last, element(tensors.update.data, p.dtype, t * p.D),
                        element(tensors.sum.data, p.dtype, t * p.D), p.dtype, p.D);
    r[p.N - 1] = attnres::reciprocal_rms(last, p.D, p.eps);
  }
  attnres::logits(shared, v, r, p, weights);
  const float lse = attnres::softmax(weights, p.N);
  if (p.lse == Option::kOn) static_cast<float*>(tensors.lse.data)[t] = lse;
  if (p.weights == Option::kOn)
    std::copy_n(weights, p.N, static_cast<float*>(tensors.weights.data) + t * p.N);
  attnres::mix_rows(weights, v, p, mixed);
  attnres::store_output(p, tensors.out, tensors.normed, shared + p.D, t, mixed);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, t, shared = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    attnres::widen_row(shared, t.wt.data, p.query_type(), p.D);
    if (p.has_norm()) attnres::widen_row(shared + p.D, t.gamma.data, p.query_type(), p.D);
    attnres::for_each_token(
        p.tokens(), scratch_of(p), shared, threads,
        [&](std::int64_t token, float* scratch) { mix_token(p, t, shared, token, scratch); });
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMix> cpu_fused;
constinit const Backend<AttnResMix> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary = "threads; every row is read once, update and norm on the way",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_mix
