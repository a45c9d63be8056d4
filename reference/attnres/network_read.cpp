// The read, its gradients, and what a merge's roundings add to their bounds.
#include "reference/attnres/network_read.h"

#include <cmath>

#include "reference/attnres/mix.h"

namespace attn::attnres {
namespace {

/// Roundings of a row's elements are independent: how many deviations of their sum are allowed.
constexpr double kDeviations = 4;

double norm(const Row& row) {
  double squares = 0;
  for (const double x : row) squares += x * x;
  return std::sqrt(squares);
}

/// The norm of the products of two rows' elements: how far roundings of one row move their inner product.
double norm_of_products(const Row& a, const Row& b) {
  double squares = 0;
  for (std::size_t d = 0; d < a.size(); ++d) squares += a[d] * b[d] * a[d] * b[d];
  return std::sqrt(squares);
}

/// What a merge rounds besides: the older sources' read, and its gradient.
struct MergeRoundings {
  double relative = 0;
  double absolute = 0;

  MergeRoundings(bool merges, DType dtype) {
    if (!merges) return;
    relative = unit_roundoff(dtype);
    absolute = half_subnormal(dtype);
  }
};

/// The row is stored once more.
void round_row(BoundedRow& row, DType dtype) {
  for (std::size_t d = 0; d < row.value.size(); ++d)
    row.error[d] += unit_roundoff(dtype) * std::abs(row.value[d]) + half_subnormal(dtype);
}

}  // namespace

BoundedRow zero_row(std::size_t D) { return {Row(D), Row(D)}; }

void append_source(TokenSources& sources, const Row& row, const NetworkProblem& p) {
  sources.v.push_back(row);
  sources.r.push_back(reciprocal_rms(row, p.eps));
}

BoundedRow network_read(const NetworkProblem& p,
                        const Row& query,
                        const TokenSources& sources,
                        bool merges) {
  const Mix mix = attnres::mix(query, sources);
  const MergeRoundings rounding(merges, p.dtype);
  BoundedRow read = mix.out;
  if (!merges) return read;
  for (std::size_t d = 0; d < query.size(); ++d) {
    const double older = read.value[d] - mix.weights.p.back() * sources.v.back()[d];
    // Two softmaxes: the error of the older sources' logits counts in both.
    read.error[d] = 2 * read.error[d] + rounding.relative * std::abs(older) + rounding.absolute;
  }
  return read;
}

void add_read_gradients(const NetworkProblem& p,
                        const Row& query,
                        const TokenSources& sources,
                        bool merges,
                        const Row& dout,
                        const std::vector<BoundedRow*>& to,
                        BoundedRow& dquery) {
  const std::vector<Logit> logits = attnres::logits(query, sources);
  const Weights weights = softmax(logits);
  const MergeRoundings rounding(merges, p.dtype);
  std::vector<Dot> c;
  for (const Row& v : sources.v) {
    c.push_back(dot(dout, v));
    c.back().error += 2 * kDeviations * rounding.relative * norm_of_products(dout, v);
  }
  const LogitGradient gradient = logit_gradient(weights, c, 0);
  const double softmaxes = merges ? 2 : 1;
  const double weight_error = sources.v.size() == 1 ? 0 : 2 * softmaxes * weights.error;
  for (std::size_t n = 0; n < sources.v.size(); ++n) {
    const Row& v = sources.v[n];
    const double r = sources.r[n];
    const double l = logits[n].value;
    const double g = gradient.g[n];
    const double g_error =
        softmaxes * gradient.error[n] + kDeviations * rounding.absolute * norm(v);
    const double scale = r * r / static_cast<double>(p.D);
    for (std::size_t d = 0; d < v.size(); ++d) {
      const double direct = weights.p[n] * dout[d];
      const double through = r * query[d];
      const double back = scale * l * v[d];
      to[n]->value[d] += direct + g * (through - back);
      to[n]->error[d] +=
          (weight_error + rounding.relative) * std::abs(direct) + rounding.absolute +
          g_error * (std::abs(through) + std::abs(back)) +
          std::abs(g) * (weights.error + 8 * kRoundoff * std::abs(l)) * scale * std::abs(v[d]) +
          8 * kRoundoff * (std::abs(direct) + std::abs(g) * (std::abs(through) + std::abs(back)));
      dquery.value[d] += g * r * v[d];
      dquery.error[d] += (g_error + 4 * kRoundoff * std::abs(g)) * r * std::abs(v[d]);
    }
    round_row(*to[n], p.dtype);
  }
}

std::vector<Row> partial_sums(const std::vector<Row>& updates, DType dtype) {
  std::vector<Row> sums;
  sums.reserve(updates.size());
  for (const Row& update : updates)
    sums.push_back(sums.empty() ? update : rounded_sum(sums.back(), update, dtype));
  return sums;
}

}  // namespace attn::attnres
