// The backward of the merge in fp64: tokens in parallel, then the query's gradient in order of tokens.
#include <cmath>
#include <span>

#include "reference/attnres/merge.h"
#include "reference/attnres/output_norm.h"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn {
namespace {

using attnres::kRoundoff;
using attnres::Row;
using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;

/// What the backward knows of one token.
struct TokenGradient : attnres::PairGradient {
  attnres::Merge merge;
  attnres::RowGradient dout;  // of the merged row, with its product with b - read
};

Row token_row(const TensorView& view, const Problem& p, std::int64_t t) {
  return attnres::load_row(view, 0, t / p.T, t % p.T);
}

attnres::Merge token_merge(
    const Problem& p, const Tensors& tensors, const Row& query, const Row& b, std::int64_t t) {
  return attnres::merge(query, b, load_element(tensors.z.data, DType::kF32, t), p.eps);
}

/// The norm of token t, and the way back through it.
attnres::NormGradient token_norm(
    const Problem& p, const Tensors& tensors, const Row& query, const Row& gamma, std::int64_t t) {
  const Row b = token_row(tensors.partial, p, t);
  const attnres::Merge merge = token_merge(p, tensors, query, b, t);
  const attnres::BoundedRow out = attnres::mixed(merge, token_row(tensors.read, p, t), b);
  return attnres::norm_gradient(attnres::store_row(out, p.out_type()), gamma,
                                token_row(tensors.dnormed, p, t), p.norm_eps);
}

TokenGradient token_gradient(const Problem& p,
                             const Tensors& tensors,
                             const Row& query,
                             const Row& gamma,
                             const Row& b,
                             std::int64_t t) {
  Row difference = token_row(tensors.read, p, t);
  for (std::size_t d = 0; d < b.size(); ++d) difference[d] = b[d] - difference[d];
  const Row given = p.has_out() ? token_row(tensors.dout, p, t) : Row(b.size(), 0.0);
  const std::span<const Row> rows(&difference, 1);
  const attnres::RowGradient dout =
      p.has_norm() ? attnres::through_norm(token_norm(p, tensors, query, gamma, t), given, rows)
                   : attnres::given_gradient(given, rows);
  const double dlse =
      p.dlse == attnres::Option::kOn ? load_element(tensors.dlse.data, DType::kF32, t) : 0.0;
  const attnres::Merge merge = token_merge(p, tensors, query, b, t);
  return {attnres::pair_gradient(merge, dout.products[0], dlse), merge, dout};
}

void store_token(const Problem& p,
                 const Tensors& tensors,
                 const Row& query,
                 const Row& b,
                 const TokenGradient& token,
                 std::int64_t t,
                 attnres::Reference& reference) {
  const attnres::Merge& m = token.merge;
  const double k = m.l * m.r * m.r / static_cast<double>(p.D);
  const double k_error =
      (m.error + 4 * kRoundoff * std::abs(m.l)) * m.r * m.r / static_cast<double>(p.D);
  const auto first = static_cast<std::size_t>(t * p.D);
  for (std::size_t d = 0; d < b.size(); ++d) {
    const double dout = token.dout.value[d];
    const double dout_error = token.dout.error[d];
    const double direct = m.a * dout;
    const double through = m.r * query[d] - k * b[d];
    const double held = p.dpartial == attnres::Store::kAdd
                            ? load_element(tensors.dpartial.data, p.grad_type(),
                                           t * p.D + static_cast<std::int64_t>(d))
                            : 0.0;
    const double magnitude =
        std::abs(direct) + std::abs(held) +
        std::abs(token.dl.value) * (std::abs(m.r * query[d]) + std::abs(k * b[d]));
    reference.set(
        first + d, held + direct + token.dl.value * through,
        m.error * m.other * std::abs(direct) + attnres::kSmallest * std::abs(dout) +
            m.a * dout_error + token.dl.error * (std::abs(m.r * query[d]) + std::abs(k * b[d])) +
            std::abs(token.dl.value) * k_error * std::abs(b[d]) + 8 * kRoundoff * magnitude);
    const attnres::Dot dread = attnres::share(m, m.other, dout);
    reference.set(reference.begin(1) + first + d, dread.value, dread.error + m.other * dout_error);
  }
  reference.set(reference.begin(2) + static_cast<std::size_t>(t), token.dz.value, token.dz.error);
}

}  // namespace

attnres::Reference AttnResMergeBwd::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, 0);
  const Row query = attnres::load_row(tensors.wt, 0, 0, 0);
  const Row gamma = p.has_norm() ? attnres::load_row(tensors.gamma, 0, 0, 0) : Row{};
  std::vector<attnres::Dot> shares(
      static_cast<std::size_t>(p.tokens()));  // of the query's gradient
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const Row b = token_row(tensors.partial, p, t);
    const TokenGradient token = token_gradient(p, tensors, query, gamma, b, t);
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
  if (!p.has_norm()) return reference;
  const auto norm = [&](std::int64_t t) { return token_norm(p, tensors, query, gamma, t); };
  attnres::store_weight_gradient(p.tokens(), norm, tensors.dgamma, p.dgamma, reference);
  return reference;
}

}  // namespace attn
