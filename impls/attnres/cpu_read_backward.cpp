// The formulas of reference/attnres/README.md, row by row.
#include "impls/attnres/cpu_read_backward.h"

#include <algorithm>

namespace attn::attnres {

ReadScratch::ReadScratch(float* base, const SourceProblem& problem)
    : v(base),
      dv(v + problem.N * problem.D),
      dout(dv + problem.N * problem.D),
      r(dout + problem.D),
      l(r + problem.N),
      p(l + problem.N),
      k(p + problem.N),
      c(k + problem.N) {}

void ReadScratch::begin_token(const SourceProblem& problem, const Planes& planes, std::int64_t t) {
  load_sources(planes, problem, t, v, r);
  std::fill_n(dv, problem.N * problem.D, 0.0f);
  std::fill_n(k, problem.N, 0.0f);
}

void find_weights(const SourceProblem& p, const float* query, ReadScratch& scratch) {
  logits(query, scratch.v, scratch.r, p, scratch.l);
  std::copy_n(scratch.l, p.N, scratch.p);
  softmax(scratch.p, p.N);
}

void add_query(const ReadGradients& p,
               const GradientTensors& tensors,
               const float* query,
               std::int64_t token,
               ReadScratch& scratch,
               float* dwt) {
  float mean = 0;
  for (std::int64_t n = 0; n < p.N; ++n) {
    scratch.c[n] = dot(scratch.dout, scratch.v + n * p.D, p.D);
    mean += scratch.p[n] * scratch.c[n];
  }
  const float dlse =
      p.dlse == Option::kOn ? static_cast<const float*>(tensors.dlse.data)[token] : 0.0f;
  for (std::int64_t n = 0; n < p.N; ++n) {
    const float weight = scratch.p[n];
    // Of one source the output is the source: no rounding may leave its logit a gradient.
    const float g = weight * ((p.N == 1 ? 0.0f : scratch.c[n] - mean) + dlse);
    add_scaled(scratch.dv + n * p.D, weight, scratch.dout, p.D);
    add_scaled(scratch.dv + n * p.D, g * scratch.r[n], query, p.D);
    add_scaled(dwt, g * scratch.r[n], scratch.v + n * p.D, p.D);
    scratch.k[n] += g * scratch.l[n];
  }
}

void store_sources(const ReadGradients& p,
                   const GradientTensors& tensors,
                   std::int64_t t,
                   const ReadScratch& scratch) {
  for (std::int64_t n = 0; n < p.N; ++n) {
    const float r = scratch.r[n];
    float* dv = scratch.dv + n * p.D;
    add_scaled(dv, -scratch.k[n] * r * r / static_cast<float>(p.D), scratch.v + n * p.D, p.D);
    void* to = tensors.dv.data[static_cast<std::size_t>(n)];
    store_row(element(to, p.grad_type(), t * p.D), p.grad_type(), dv, p.D,
              p.adds_to(n) ? Store::kAdd : Store::kWrite);
  }
}

}  // namespace attn::attnres
