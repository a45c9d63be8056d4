// Phase 1 in fp64, token by token.
#include "reference/attnres/mix.h"
#include "reference/attnres_phase1/contract.h"

namespace attn {
namespace {

using attnres::Row;

/// What token t gives: its S output rows and S normalisers.
void read_token(const AttnResPhase1::Problem& p,
                const AttnResPhase1::Tensors& tensors,
                const std::vector<Row>& queries,
                std::int64_t t,
                attnres::Reference& reference) {
  const attnres::TokenSources sources = attnres::load_sources(tensors.v, p, t);
  for (std::int64_t s = 0; s < p.S; ++s) {
    const attnres::Mix mix = attnres::mix(queries[static_cast<std::size_t>(s)], sources);
    const auto token = static_cast<std::size_t>(s * p.tokens() + t);
    const auto first = token * static_cast<std::size_t>(p.D);
    for (std::size_t d = 0; d < mix.out.value.size(); ++d)
      reference.set(first + d, mix.out.value[d], mix.out.error[d]);
    reference.set(reference.begin(1) + token, mix.weights.lse, mix.weights.error);
  }
}

}  // namespace

attnres::Reference AttnResPhase1::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, specs.size());
  const std::vector<Row> queries = attnres::load_rows(tensors.wt);
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) read_token(p, tensors, queries, t, reference);
  return reference;
}

}  // namespace attn
