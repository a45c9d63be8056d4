// The backward of phase 1 on a CPU: reads of the sources and of the outputs' gradients, once.
//
// Computes   per token: logits and weights again from the sources, the logits' gradients, the gradients
//            of all N sources; the queries' gradients add up over a chunk of tokens.
// Mapping    chunks of tokens -> threads; the chunks' sums are added in order, so that the bits do not
//            depend on the threads.
// Memory     workspace: the queries and the chunks' sums [64, S, D] in fp32, (2 N + 1) D + 5 N floats a
//            thread.
// Limit      the 10 N S D FLOP of a token, beside 2 N + S rows of traffic.
// Rounding   fp32, one rounding of each output.
// Source     reference/attnres/README.md.
#include <algorithm>
#include <cstdint>

#include "impls/attnres/cpu_read_backward.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres_phase1_bwd {
namespace {

using Problem = AttnResPhase1Bwd::Problem;
using Tensors = AttnResPhase1Bwd::Tensors;

attnres::CpuScratch scratch_of(const Problem& p) {
  return {.shared_floats = (1 + attnres::chunk_count(p.tokens())) * p.S * p.D,
          .thread_floats = attnres::ReadScratch::floats(p)};
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

/// Token t; its share of the queries' gradients is added to dwt [S, D].
void token_backward(const Problem& p,
                    const Tensors& tensors,
                    const float* queries,
                    std::int64_t t,
                    float* base,
                    float* dwt) {
  attnres::ReadScratch scratch(base, p);
  scratch.begin_token(p, tensors.v, t);
  for (std::int64_t s = 0; s < p.S; ++s) {
    const std::int64_t token = s * p.tokens() + t;
    attnres::find_weights(p, queries + s * p.D, scratch);
    attnres::widen_row(scratch.dout, attnres::element(tensors.dout.data, p.out_type(), token * p.D),
                       p.out_type(), p.D);
    attnres::add_query(p, tensors, queries + s * p.D, token, scratch, dwt + s * p.D);
  }
  attnres::store_sources(p, tensors, t, scratch);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, t, queries = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    const std::int64_t elements = p.S * p.D;
    float* partials = queries + elements;
    attnres::widen_row(queries, t.wt.data, p.query_type(), elements);
    attnres::for_each_chunk(
        p.tokens(), scratch_of(p), queries, threads,
        [&](std::int64_t chunk, std::int64_t begin, std::int64_t end, float* scratch) {
          float* dwt = partials + chunk * elements;
          std::fill_n(dwt, elements, 0.0f);
          for (std::int64_t token = begin; token < end; ++token)
            token_backward(p, t, queries, token, scratch, dwt);
        });
    attnres::sum_chunks(partials, attnres::chunk_count(p.tokens()), elements,
                        static_cast<float*>(t.dwt.data), p.dwt);
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResPhase1Bwd> cpu_fused;
constinit const Backend<AttnResPhase1Bwd> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary =
                 "threads; weights computed again from rows in the cache, no scratch a token",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_phase1_bwd
