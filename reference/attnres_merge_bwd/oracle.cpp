// The backward of the merge in fp64: tokens in parallel, then the query's gradient in order of tokens.
#include <cmath>

#include "reference/attnres/merge.h"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn {
namespace {

using attnres::kRoundoff;
using attnres::Row;
using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;

/// Gradients of one token's logits.
struct TokenGradient : attnres::PairGradient {
  attnres::Merge merge;
};

TokenGradient token_gradient(
    const Problem& p, const Tensors& tensors, const Row& query, const Row& b, std::int64_t t) {
  const Row read = attnres::load_row(tensors.read, 0, t / p.T, t % p.T);
  const Row dout = attnres::load_row(tensors.dout, 0, t / p.T, t % p.T);
  Row difference(b.size());
  for (std::size_t d = 0; d < b.size(); ++d) difference[d] = b[d] - read[d];
  const double z = load_element(tensors.z.data, DType::kF32, t);
  const double dlse =
      p.dlse == attnres::Option::kOn ? load_element(tensors.dlse.data, DType::kF32, t) : 0.0;
  const attnres::Merge merge = attnres::merge(query, b, z, p.eps);
  return {attnres::pair_gradient(merge, attnres::dot(dout, difference), dlse), merge};
}

void store_token(const Problem& p,
                 const Tensors& tensors,
                 const Row& query,
                 const Row& b,
                 const TokenGradient& token,
                 std::int64_t t,
                 attnres::Reference& reference) {
  const attnres::Merge& m = token.merge;
  const Row dout = attnres::load_row(tensors.dout, 0, t / p.T, t % p.T);
  const double k = m.l * m.r * m.r / static_cast<double>(p.D);
  const double k_error =
      (m.error + 4 * kRoundoff * std::abs(m.l)) * m.r * m.r / static_cast<double>(p.D);
  const auto first = static_cast<std::size_t>(t * p.D);
  for (std::size_t d = 0; d < b.size(); ++d) {
    const double direct = m.a * dout[d];
    const double through = m.r * query[d] - k * b[d];
    const double held = p.dpartial == attnres::Store::kAdd
                            ? load_element(tensors.dpartial.data, p.grad_type(),
                                           t * p.D + static_cast<std::int64_t>(d))
                            : 0.0;
    const double magnitude =
        std::abs(direct) + std::abs(held) +
        std::abs(token.dl.value) * (std::abs(m.r * query[d]) + std::abs(k * b[d]));
    reference.set(first + d, held + direct + token.dl.value * through,
                  m.error * m.other * std::abs(direct) + attnres::kSmallest * std::abs(dout[d]) +
                      token.dl.error * (std::abs(m.r * query[d]) + std::abs(k * b[d])) +
                      std::abs(token.dl.value) * k_error * std::abs(b[d]) +
                      8 * kRoundoff * magnitude);
    const attnres::Dot dread = attnres::share(m, m.other, dout[d]);
    reference.set(reference.begin(1) + first + d, dread.value, dread.error);
  }
  reference.set(reference.begin(2) + static_cast<std::size_t>(t), token.dz.value, token.dz.error);
}

}  // namespace

attnres::Reference AttnResMergeBwd::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, 0);
  const Row query = attnres::load_row(tensors.wt, 0, 0, 0);
  std::vector<attnres::Dot> shares(
      static_cast<std::size_t>(p.tokens()));  // of the query's gradient
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const Row b = attnres::load_row(tensors.partial, 0, t / p.T, t % p.T);
    const TokenGradient token = token_gradient(p, tensors, query, b, t);
    store_token(p, tensors, query, b, token, t, reference);
    const double r = token.merge.r;
    shares[static_cast<std::size_t>(t)] = {
        token.dl.value * r, (token.dl.error + 4 * kRoundoff * std::abs(token.dl.value)) * r};
  }
#pragma omp parallel for
  for (std::int64_t d = 0; d < p.D; ++d) {
    attnres::QuerySum sum;
    for (std::int64_t t = 0; t < p.tokens(); ++t) {
      const double b = load_element(tensors.partial.data, p.dtype, t * p.D + d);
      const attnres::Dot& share = shares[static_cast<std::size_t>(t)];
      sum.add(share.value * b, share.error * std::abs(b));
    }
    if (p.dwt == attnres::Store::kAdd) sum.add(load_element(tensors.dwt.data, DType::kF32, d), 0);
    reference.set(reference.begin(3) + static_cast<std::size_t>(d), sum.value,
                  sum.error(p.tokens()));
  }
  return reference;
}

}  // namespace attn
