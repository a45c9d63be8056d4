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

#include "impls/attnres/cpu_rows.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres_phase1_bwd {
namespace {

using Problem = AttnResPhase1Bwd::Problem;
using Tensors = AttnResPhase1Bwd::Tensors;

attnres::CpuScratch scratch_of(const Problem& p) {
  return {.shared_floats = (1 + attnres::chunk_count(p.tokens())) * p.S * p.D,
          .thread_floats = (2 * p.N + 1) * p.D + 5 * p.N};
}

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

/// A token's rows and numbers in a thread's scratch.
struct TokenScratch {
  float* v;     // [N, D]
  float* dv;    // [N, D]
  float* dout;  // [D]
  float* r;     // [N]
  float* l;     // [N] logits, then the weights
  float* g;     // [N] gradients of the logits
  float* k;     // [N] sums over the queries of g l
  float* c;     // [N] inner products of dout and the sources

  TokenScratch(float* base, const Problem& p)
      : v(base),
        dv(v + p.N * p.D),
        dout(dv + p.N * p.D),
        r(dout + p.D),
        l(r + p.N),
        g(l + p.N),
        k(g + p.N),
        c(k + p.N) {}
};

/// Gradients of query s at token t: of its logits, and what the sources get from it.
void add_query(const Problem& p,
               const Tensors& tensors,
               const float* query,
               std::int64_t s,
               std::int64_t t,
               TokenScratch& scratch) {
  const std::int64_t token = s * p.tokens() + t;
  attnres::widen_row(scratch.dout, attnres::element(tensors.dout.data, p.out_type(), token * p.D),
                     p.out_type(), p.D);
  attnres::logits(query, scratch.v, scratch.r, p, scratch.l);
  std::copy_n(scratch.l, p.N, scratch.g);
  attnres::softmax(scratch.g, p.N);  // the weights, for a while
  float mean = 0;
  for (std::int64_t n = 0; n < p.N; ++n) {
    scratch.c[n] = attnres::dot(scratch.dout, scratch.v + n * p.D, p.D);
    mean += scratch.g[n] * scratch.c[n];
  }
  const float dlse =
      p.dlse == attnres::Option::kOn ? static_cast<const float*>(tensors.dlse.data)[token] : 0.0f;
  for (std::int64_t n = 0; n < p.N; ++n) {
    const float weight = scratch.g[n];
    // Of one source the output is the source: no rounding may leave its logit a gradient.
    const float g = weight * ((p.N == 1 ? 0.0f : scratch.c[n] - mean) + dlse);
    attnres::add_scaled(scratch.dv + n * p.D, weight, scratch.dout, p.D);
    attnres::add_scaled(scratch.dv + n * p.D, g * scratch.r[n], query, p.D);
    scratch.k[n] += g * scratch.l[n];
    scratch.g[n] = g;
  }
}

void store_sources(const Problem& p,
                   const Tensors& tensors,
                   std::int64_t t,
                   const TokenScratch& scratch) {
  for (std::int64_t n = 0; n < p.N; ++n) {
    const float r = scratch.r[n];
    float* dv = scratch.dv + n * p.D;
    attnres::add_scaled(dv, -scratch.k[n] * r * r / static_cast<float>(p.D), scratch.v + n * p.D,
                        p.D);
    void* to = tensors.dv.data[static_cast<std::size_t>(n)];
    attnres::store_row(attnres::element(to, p.grad_type(), t * p.D), p.grad_type(), dv, p.D,
                       p.adds_to(n) ? attnres::Store::kAdd : attnres::Store::kWrite);
  }
}

/// Token t; its share of the queries' gradients is added to dwt [S, D].
void token_backward(const Problem& p,
                    const Tensors& tensors,
                    const float* queries,
                    std::int64_t t,
                    float* base,
                    float* dwt) {
  TokenScratch scratch(base, p);
  attnres::load_sources(tensors.v, p, t, scratch.v, scratch.r);
  std::fill_n(scratch.dv, p.N * p.D, 0.0f);
  std::fill_n(scratch.k, p.N, 0.0f);
  for (std::int64_t s = 0; s < p.S; ++s) {
    add_query(p, tensors, queries + s * p.D, s, t, scratch);
    for (std::int64_t n = 0; n < p.N; ++n)
      attnres::add_scaled(dwt + s * p.D, scratch.g[n] * scratch.r[n], scratch.v + n * p.D, p.D);
  }
  store_sources(p, tensors, t, scratch);
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
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_phase1_bwd
