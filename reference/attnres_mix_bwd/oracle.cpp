// The backward of the mix in fp64: the gradient of the output through its norm, then that of the read.
#include "reference/attnres/mix.h"
#include "reference/attnres/read_backward.h"
#include "reference/attnres_mix_bwd/contract.h"

namespace attn {
namespace {

using attnres::Row;
using Problem = AttnResMixBwd::Problem;
using Tensors = AttnResMixBwd::Tensors;

Row token_row(const TensorView& view, const Problem& p, std::int64_t t) {
  return attnres::load_row(view, 0, t / p.T, t % p.T);
}

/// The norm of token t, and the way back through it.
attnres::NormGradient token_norm(const Problem& p,
                                 const Tensors& tensors,
                                 const Row& query,
                                 const Row& gamma,
                                 const attnres::TokenSources& sources,
                                 std::int64_t t) {
  const attnres::Mix mix = attnres::mix(query, sources);
  return attnres::norm_gradient(attnres::store_row(mix.out, p.out_type()), gamma,
                                token_row(tensors.dnormed, p, t), p.norm_eps);
}

}  // namespace

attnres::Reference AttnResMixBwd::oracle(const Problem& p, const Tensors& tensors) {
  Reference reference(tensor_specs(p), 0);
  const Row query = attnres::load_row(tensors.wt, 0, 0, 0);
  const Row gamma = p.has_norm() ? attnres::load_row(tensors.gamma, 0, 0, 0) : Row{};
  const auto gradients = [&](std::int64_t, std::int64_t t, const attnres::TokenSources& sources) {
    const Row dout = p.has_out() ? token_row(tensors.dout, p, t) : Row(query.size(), 0.0);
    if (!p.has_norm()) return attnres::given_gradient(dout, sources.v);
    return attnres::through_norm(token_norm(p, tensors, query, gamma, sources, t), dout, sources.v);
  };
  attnres::read_backward(attnres::one_query(p), tensors, gradients, reference);
  if (!p.has_norm()) return reference;
  const auto norm = [&](std::int64_t t) {
    return token_norm(p, tensors, query, gamma, attnres::load_sources(tensors.v, p, t), t);
  };
  attnres::store_weight_gradient(p.tokens(), norm, tensors.dgamma, p.dgamma, reference);
  return reference;
}

}  // namespace attn
