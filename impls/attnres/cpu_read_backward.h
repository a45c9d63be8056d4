// One token's backward of a read over depth, in fp32 on a CPU.
#pragma once

#include "impls/attnres/cpu_rows.h"
#include "reference/attnres/gradients.h"

namespace attn::attnres {

/// A token's rows and numbers in a thread's scratch.
struct ReadScratch {
  float* v;     // [N, D]
  float* dv;    // [N, D]
  float* dout;  // [D] of one query
  float* r;     // [N]
  float* l;     // [N] logits of one query
  float* p;     // [N] their weights
  float* k;     // [N] sums over the queries of g l, where g is a logit's gradient
  float* c;     // [N] inner products of dout and the sources

  static std::int64_t floats(const SourceProblem& p) { return (2 * p.N + 1) * p.D + 5 * p.N; }
  ReadScratch(float* base, const SourceProblem& p);
  /// Loads the sources of token t; nothing has been added yet.
  void begin_token(const SourceProblem& p, const Planes& planes, std::int64_t t);
};

/// Logits and weights of one query.
void find_weights(const SourceProblem& p, const float* query, ReadScratch& scratch);

/// Adds what a query gives the sources, and its own gradient to dwt [D], from scratch.dout and its
/// weights. `token`: of dlse.
void add_query(const ReadGradients& p,
               const GradientTensors& tensors,
               const float* query,
               std::int64_t token,
               ReadScratch& scratch,
               float* dwt);

/// Stores the gradients of the sources of token t.
void store_sources(const ReadGradients& p,
                   const GradientTensors& tensors,
                   std::int64_t t,
                   const ReadScratch& scratch);

}  // namespace attn::attnres
