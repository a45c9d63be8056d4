// The backward of the mix on a CPU: the sources once, the output and its norm again in the cache.
//
// Computes   per token: the weights again; with a norm the mixed row again and the gradient through it;
//            the logits' gradients and those of all N sources; the gradients of the query and of the norm's
//            weight add up over a chunk of tokens.
// Mapping    chunks of tokens -> threads; the chunks' sums are added in order, so that the bits do not
//            depend on the threads.
// Memory     workspace: query and weight, and the chunks' sums of both gradients [64, D], in fp32;
//            (2 N + 2) D + 5 N floats a thread.
// Limit      memory: 2 N + 1 rows a token, one more for each gradient that is added to.
// Rounding   fp32, one rounding of each output; the norm is that of the rounded row.
// Source     reference/attnres/README.md.
#include <cstdint>

#include "impls/attnres/cpu_norm.h"
#include "impls/attnres/cpu_read_backward.h"
#include "impls/attnres/cpu_weights.h"
#include "reference/attnres_mix_bwd/contract.h"

namespace attn::attnres_mix_bwd {
namespace {

using Problem = AttnResMixBwd::Problem;
using Tensors = AttnResMixBwd::Tensors;

attnres::CpuScratch scratch_of(const Problem& p) {
  return {.shared_floats = attnres::CpuWeights::floats(p),
          .thread_floats = attnres::ReadScratch::floats(p) + p.D};
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, read = attnres::one_query(p), t, base = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    attnres::CpuWeights weights(base, p);
    weights.load(t.wt, t.gamma);
    attnres::for_each_chunk(
        p.tokens(), scratch_of(p), base, threads,
        [&](std::int64_t chunk, std::int64_t begin, std::int64_t end, float* floats) {
          weights.begin(chunk);
          attnres::ReadScratch scratch(floats, p);
          float* row = floats + attnres::ReadScratch::floats(p);
          for (std::int64_t token = begin; token < end; ++token) {
            scratch.begin_token(p, t.v, token);
            attnres::find_weights(p, weights.query(), scratch);
            if (p.has_norm()) attnres::mix_rows(scratch.p, scratch.v, p, row);
            attnres::load_output_gradient(p, t.dout, t.dnormed, weights.gamma(), token, row,
                                          scratch.dout, weights.dgamma(chunk));
            attnres::add_query(read, t, weights.query(), token, scratch, weights.dwt(chunk));
            attnres::store_sources(read, t, token, scratch);
          }
        });
    weights.store_dwt(t.dwt, p.dwt);
    if (p.has_norm()) weights.store_dgamma(t.dgamma, p.dgamma);
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMixBwd> cpu_fused;
constinit const Backend<AttnResMixBwd> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary = "threads; weights, output and norm computed again from rows in the cache",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_mix_bwd
