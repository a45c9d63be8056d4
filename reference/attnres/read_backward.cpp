// The backward of a read: tokens in parallel, then the queries' gradient in order of tokens.
#include "reference/attnres/read_backward.h"

#include <cmath>
#include <utility>

namespace attn::attnres {
namespace {

/// What one query makes of one token.
struct QueryPart {
  RowGradient dout;
  Weights weights;
  LogitGradient gradient;
  std::vector<Logit> logits;
};

std::vector<QueryPart> query_parts(const ReadGradients& p,
                                   const GradientTensors& tensors,
                                   const OutputGradients& gradients,
                                   const std::vector<Row>& queries,
                                   const TokenSources& sources,
                                   std::int64_t t) {
  std::vector<QueryPart> parts;
  for (std::int64_t s = 0; s < p.S; ++s) {
    QueryPart part;
    part.logits = logits(queries[static_cast<std::size_t>(s)], sources);
    part.weights = softmax(part.logits);
    part.dout = gradients(s, t, sources);
    const double dlse = p.dlse == Option::kOn
                            ? load_element(tensors.dlse.data, DType::kF32, s * p.tokens() + t)
                            : 0.0;
    part.gradient = logit_gradient(part.weights, part.dout.products, dlse);
    parts.push_back(std::move(part));
  }
  return parts;
}

/// The gradient of source n of token t.
void source_gradient(const ReadGradients& p,
                     const GradientTensors& tensors,
                     const std::vector<Row>& queries,
                     const TokenSources& sources,
                     const std::vector<QueryPart>& parts,
                     std::int64_t t,
                     std::size_t n,
                     Reference& reference) {
  const double r = sources.r[n];
  Dot k;  // sum over s of g l, times r^2 / D
  for (const QueryPart& part : parts) {
    const double l = part.logits[n].value;
    const double g = part.gradient.g[n];
    k.value += g * l;
    k.error += part.gradient.error[n] * std::abs(l) +
               std::abs(g) * (part.weights.error + 8 * kRoundoff * std::abs(l));
  }
  const double scale = r * r / static_cast<double>(p.D);
  const auto plane = static_cast<std::int64_t>(n);
  const TensorView old = tensors.dv.view(plane, p);
  const auto first = (n * static_cast<std::size_t>(p.tokens()) + static_cast<std::size_t>(t)) *
                     static_cast<std::size_t>(p.D);
  for (std::size_t d = 0; d < static_cast<std::size_t>(p.D); ++d) {
    const double v = sources.v[n][d];
    double sum = -k.value * scale * v;
    double magnitude = std::abs(sum);
    double error = k.error * scale * std::abs(v);
    for (std::size_t s = 0; s < parts.size(); ++s) {
      const QueryPart& part = parts[s];
      const double direct = part.weights.p[n] * part.dout.value[d];
      const double through = r * queries[s][d];
      sum += direct + part.gradient.g[n] * through;
      magnitude += std::abs(direct) + std::abs(part.gradient.g[n] * through);
      error += 2 * part.weights.error * std::abs(direct) * (p.N == 1 ? 0 : 1) +
               part.weights.p[n] * part.dout.error[d] + part.gradient.error[n] * std::abs(through);
    }
    if (p.adds_to(plane)) {
      const double held =
          load_element(old.data, old.dtype, old.offset(0, 0, t, static_cast<std::int64_t>(d)));
      sum += held;
      magnitude += std::abs(held);
    }
    reference.set(first + d, sum, error + 8 * kRoundoff * magnitude);
  }
}

}  // namespace

void read_backward(const ReadGradients& p,
                   const GradientTensors& tensors,
                   const OutputGradients& gradients,
                   Reference& reference) {
  const std::vector<Row> queries = load_rows(tensors.wt);
  const auto D = static_cast<std::size_t>(p.D);
  const auto N = static_cast<std::size_t>(p.N);
  const auto S = static_cast<std::size_t>(p.S);
  // What a token gives the queries, [S, N]: the gradients g r and their errors.
  std::vector<std::vector<Dot>> shares(static_cast<std::size_t>(p.tokens()));
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const TokenSources sources = load_sources(tensors.v, p, t);
    const auto parts = query_parts(p, tensors, gradients, queries, sources, t);
    for (std::size_t n = 0; n < N; ++n)
      source_gradient(p, tensors, queries, sources, parts, t, n, reference);
    auto& share = shares[static_cast<std::size_t>(t)];
    for (const QueryPart& part : parts) {
      for (std::size_t n = 0; n < N; ++n)
        share.push_back({part.gradient.g[n] * sources.r[n],
                         (part.gradient.error[n] + 4 * kRoundoff * std::abs(part.gradient.g[n])) *
                             sources.r[n]});
    }
  }
  const std::size_t first = N * static_cast<std::size_t>(p.tokens()) * D;
#pragma omp parallel for
  for (std::int64_t column = 0; column < p.D; ++column) {
    const auto d = static_cast<std::size_t>(column);
    std::vector<QuerySum> sums(S);
    std::vector<double> v(N);
    for (std::int64_t t = 0; t < p.tokens(); ++t) {
      for (std::size_t n = 0; n < N; ++n) {
        const TensorView plane = tensors.v.view(static_cast<std::int64_t>(n), p);
        v[n] = load_element(plane.data, plane.dtype, plane.offset(0, 0, t, column));
      }
      const auto& share = shares[static_cast<std::size_t>(t)];
      for (std::size_t s = 0; s < S; ++s) {
        Dot sum;
        for (std::size_t n = 0; n < N; ++n) {
          sum.value += share[s * N + n].value * v[n];
          sum.error += share[s * N + n].error * std::abs(v[n]);
        }
        sums[s].add(sum.value, sum.error);
      }
    }
    for (std::size_t s = 0; s < S; ++s) {
      if (p.dwt == Store::kAdd)
        sums[s].add(load_element(tensors.dwt.data, DType::kF32,
                                 static_cast<std::int64_t>(s) * p.D + column),
                    0);
      reference.set(first + s * D + d, sums[s].value, sums[s].error(p.tokens()));
    }
  }
}

}  // namespace attn::attnres
