// Phase 1 on a CPU: every source row is read once, for all queries.
//
// Computes   per token: the sources widen to fp32 and stay in the cache; logits, softmax over depth and
//            the mixed rows of all S queries follow from there.
// Mapping    chunks of tokens -> threads; the result depends on neither.
// Memory     workspace: the queries in fp32, and (N + 1) D + 2 N floats a thread.
// Limit      the 4 N S D FLOP of a token, beside N + S rows of traffic.
// Rounding   fp32, one rounding of each output.
// Source     reference/attnres/README.md.
#include <cstdint>

#include "impls/attnres/cpu_rows.h"
#include "reference/attnres_phase1/contract.h"

namespace attn::attnres_phase1 {
namespace {

using Problem = AttnResPhase1::Problem;
using Tensors = AttnResPhase1::Tensors;

attnres::CpuScratch scratch_of(const Problem& p) {
  return {.shared_floats = p.S * p.D, .thread_floats = (p.N + 1) * p.D + 2 * p.N};
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

/// All S reads of token t; `scratch`: v [N, D], a mixed row [D], r [N], logits [N].
void read_token(const Problem& p,
                const Tensors& tensors,
                const float* queries,
                std::int64_t t,
                float* scratch) {
  float* v = scratch;
  float* mixed = v + p.N * p.D;
  float* r = mixed + p.D;
  float* weights = r + p.N;
  attnres::load_sources(tensors.v, p, t, v, r);
  for (std::int64_t s = 0; s < p.S; ++s) {
    attnres::logits(queries + s * p.D, v, r, p, weights);
    const std::int64_t token = s * p.tokens() + t;
    static_cast<float*>(tensors.lse.data)[token] = attnres::softmax(weights, p.N);
    attnres::mix_rows(weights, v, p, mixed);
    attnres::store_row(attnres::element(tensors.out.data, p.out_type(), token * p.D), p.out_type(),
                       mixed, p.D, attnres::Store::kWrite);
  }
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, t, queries = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    attnres::widen_row(queries, t.wt.data, p.query_type(), p.S * p.D);
    attnres::for_each_token(
        p.tokens(), scratch_of(p), queries, threads,
        [&](std::int64_t token, float* scratch) { read_token(p, t, queries, token, scratch); });
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResPhase1> cpu_fused;
constinit const Backend<AttnResPhase1> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary = "threads; every source row is read once for all queries",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_phase1
