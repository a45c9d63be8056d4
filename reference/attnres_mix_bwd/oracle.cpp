// The backward of the mix in fp64: the gradient of the output through its norm, then that of the read.
#include <algorithm>
#include <cmath>

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
  return attnres::norm_gradient(attnres::store_row(mix.row, mix.bound, p.out_type()), gamma,
                                token_row(tensors.dnormed, p, t), p.norm_eps);
}

/// The gradient of the mixed row: through its norm, and that of the row itself where it is written too.
attnres::RowGradient through_norm(const attnres::NormGradient& norm,
                                  const Row& dout,
                                  const attnres::TokenSources& sources) {
  attnres::RowGradient gradient = attnres::given_gradient(dout, sources);
  for (std::size_t d = 0; d < dout.size(); ++d) {
    const attnres::Dot dh = norm.dh(d);
    gradient.value[d] += dh.value;
    gradient.error[d] = dh.error + attnres::kRoundoff * std::abs(gradient.value[d]);
  }
  for (std::size_t n = 0; n < sources.v.size(); ++n) {
    const attnres::Dot product = norm.product(sources.v[n]);
    gradient.products[n].value += product.value;
    gradient.products[n].error += product.error;
  }
  return gradient;
}

/// The gradient of the norm's weight: chunks of tokens in parallel, then in order.
void store_weight_gradient(const Problem& p,
                           const Tensors& tensors,
                           const Row& query,
                           const Row& gamma,
                           attnres::Reference& reference) {
  constexpr std::int64_t kChunks = 64;
  const auto D = static_cast<std::size_t>(p.D);
  std::vector<std::vector<attnres::QuerySum>> chunks(kChunks, std::vector<attnres::QuerySum>(D));
#pragma omp parallel for
  for (std::int64_t chunk = 0; chunk < kChunks; ++chunk) {
    auto& sums = chunks[static_cast<std::size_t>(chunk)];
    for (std::int64_t t = chunk * p.tokens() / kChunks; t < (chunk + 1) * p.tokens() / kChunks;
         ++t) {
      const auto norm =
          token_norm(p, tensors, query, gamma, attnres::load_sources(tensors.v, p, t), t);
      const Row dnormed = token_row(tensors.dnormed, p, t);
      for (std::size_t d = 0; d < D; ++d) {
        const double normed = norm.h.value[d] * norm.rho.value;
        sums[d].add(
            dnormed[d] * normed,
            std::abs(dnormed[d]) * (norm.rho.value * norm.h.error[d] +
                                    std::abs(normed) * (norm.rho.error + 4 * attnres::kRoundoff)));
      }
    }
  }
  const std::size_t first = reference.begin(reference.outputs.size() - 1);
  for (std::size_t d = 0; d < D; ++d) {
    attnres::QuerySum sum;
    for (const auto& chunk : chunks) sum.add(chunk[d]);
    if (p.dgamma == attnres::Store::kAdd)
      sum.add(load_element(tensors.dgamma.data, DType::kF32, static_cast<std::int64_t>(d)), 0);
    reference.set(first + d, sum.value, sum.error(p.tokens()));
  }
}

}  // namespace

attnres::Reference AttnResMixBwd::oracle(const Problem& p, const Tensors& tensors) {
  Reference reference(tensor_specs(p), 0);
  const Row query = attnres::load_row(tensors.wt, 0, 0, 0);
  const Row gamma = p.has_norm() ? attnres::load_row(tensors.gamma, 0, 0, 0) : Row{};
  const auto gradients = [&](std::int64_t, std::int64_t t, const attnres::TokenSources& sources) {
    const Row dout = p.has_out() ? token_row(tensors.dout, p, t) : Row(query.size(), 0.0);
    if (!p.has_norm()) return attnres::given_gradient(dout, sources);
    return through_norm(token_norm(p, tensors, query, gamma, sources, t), dout, sources);
  };
  attnres::read_backward(attnres::one_query(p), tensors, gradients, reference);
  if (p.has_norm()) store_weight_gradient(p, tensors, query, gamma, reference);
  return reference;
}

}  // namespace attn
