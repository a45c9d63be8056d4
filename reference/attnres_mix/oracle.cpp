// The mix in fp64, token by token.
#include "reference/attnres/mix.h"
#include "reference/attnres_mix/contract.h"

namespace attn {
namespace {

using attnres::Row;
using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;

void mix_token(const Problem& p,
               const Tensors& tensors,
               const Row& query,
               const Row& gamma,
               std::int64_t t,
               attnres::Reference& reference) {
  attnres::TokenSources sources = attnres::load_sources(tensors.v, p, t);
  const bool updates = p.update == attnres::Option::kOn;
  if (updates) {
    Row& last = sources.v.back();
    last =
        attnres::rounded_sum(last, attnres::load_row(tensors.update, 0, t / p.T, t % p.T), p.dtype);
    sources.r.back() = attnres::reciprocal_rms(last, p.eps);
  }
  const attnres::Mix mix = attnres::mix(query, sources);
  attnres::TokenOutputs outputs(reference, t);
  if (p.has_out()) outputs.row(mix.out.value, mix.out.error);
  if (p.has_norm()) {
    const attnres::BoundedRow normed =
        attnres::output_norm(attnres::store_row(mix.out, p.out_type()), gamma, p.norm_eps);
    outputs.row(normed.value, normed.error);
  }
  const attnres::Weights& weights = mix.weights;
  if (p.lse == attnres::Option::kOn) outputs.row({weights.lse}, {weights.error});
  if (p.weights == attnres::Option::kOn) {
    Row error;
    for (const double one : weights.p)
      error.push_back(2 * weights.error * one + attnres::kSmallest);
    outputs.row(weights.p, error);
  }
  if (updates) outputs.row(sources.v.back(), Row(query.size(), 0.0));
}

}  // namespace

attnres::Reference AttnResMix::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, specs.size());
  const Row query = attnres::load_row(tensors.wt, 0, 0, 0);
  const Row gamma = p.has_norm() ? attnres::load_row(tensors.gamma, 0, 0, 0) : Row{};
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) mix_token(p, tensors, query, gamma, t, reference);
  return reference;
}

}  // namespace attn
