// The fp64 pieces of a read over depth.
#include "reference/attnres/read.h"

#include <algorithm>
#include <cmath>

namespace attn::attnres {

Row load_row(const TensorView& view, std::int64_t plane, std::int64_t b, std::int64_t t) {
  Row row(static_cast<std::size_t>(view.shape[3]));
  const std::int64_t first = view.offset(plane, b, t);
  for (std::size_t d = 0; d < row.size(); ++d)
    row[d] = load_element(view.data, view.dtype, first + static_cast<std::int64_t>(d));
  return row;
}

std::vector<Row> load_rows(const TensorView& view) {
  std::vector<Row> rows;
  for (std::int64_t i = 0; i < view.shape[2]; ++i) rows.push_back(load_row(view, 0, 0, i));
  return rows;
}

Dot dot(const Row& a, const Row& b) {
  Dot sum;
  double squares = 0;
  for (std::size_t d = 0; d < a.size(); ++d) {
    const double product = a[d] * b[d];
    sum.value += product;
    squares += product * product;
  }
  sum.error = kSumError * (std::sqrt(squares) + std::abs(sum.value));
  return sum;
}

double reciprocal_rms(const Row& v, double eps) {
  double squares = 0;
  for (const double x : v) squares += x * x;
  return 1 / std::sqrt(squares / static_cast<double>(v.size()) + eps);
}

Logit logit(const Row& query, const Row& v, double r) {
  const Dot product = dot(query, v);
  return {r * product.value, r * product.error + kSumError * std::abs(r * product.value)};
}

TokenSources load_sources(const Planes& planes, const SourceProblem& p, std::int64_t t) {
  TokenSources sources;
  for (std::int64_t n = 0; n < p.N; ++n) {
    sources.v.push_back(load_row(planes.view(n, p), 0, 0, t));
    sources.r.push_back(reciprocal_rms(sources.v.back(), p.eps));
  }
  return sources;
}

std::vector<Logit> logits(const Row& query, const TokenSources& sources) {
  std::vector<Logit> logits;
  for (std::size_t n = 0; n < sources.v.size(); ++n)
    logits.push_back(logit(query, sources.v[n], sources.r[n]));
  return logits;
}

Weights softmax(const std::vector<Logit>& logits) {
  Weights weights;
  double largest = -INFINITY;
  for (const Logit& one : logits) {
    largest = std::max(largest, one.value);
    weights.error = std::max(weights.error, one.error + kSumError * std::abs(one.value));
  }
  weights.error += kSumError;
  double sum = 0;
  for (const Logit& one : logits) sum += std::exp(one.value - largest);
  weights.lse = largest + std::log(sum);
  for (const Logit& one : logits) weights.p.push_back(std::exp(one.value - weights.lse));
  return weights;
}

LogitGradient logit_gradient(const Weights& weights, const std::vector<Dot>& c, double d_lse) {
  LogitGradient gradient;
  double mean = 0;
  for (std::size_t n = 0; n < c.size(); ++n) mean += weights.p[n] * c[n].value;
  double mean_error = 0;
  for (std::size_t n = 0; n < c.size(); ++n)
    mean_error += weights.p[n] * (c[n].error + 2 * weights.error * std::abs(c[n].value - mean) +
                                  4 * kRoundoff * std::abs(c[n].value));
  const double lone = c.size() == 1 ? 0 : 1;  // of one source, the gradient is exactly d_lse
  for (std::size_t n = 0; n < c.size(); ++n) {
    const double g = weights.p[n] * (lone * (c[n].value - mean) + d_lse);
    gradient.g.push_back(g);
    gradient.error.push_back(
        2 * weights.error * std::abs(g) +
        lone * weights.p[n] *
            (c[n].error + mean_error +
             4 * kRoundoff * (std::abs(c[n].value) + std::abs(mean) + std::abs(d_lse))));
  }
  return gradient;
}

void TokenOutputs::row(const Row& value, const Row& error) {
  const std::size_t first =
      reference_.begin(index_++) + static_cast<std::size_t>(t_) * value.size();
  for (std::size_t i = 0; i < value.size(); ++i) reference_.set(first + i, value[i], error[i]);
}

void QuerySum::add(double contribution, double error) {
  value += contribution;
  drift += error * error;
  square += contribution * contribution;
}

void QuerySum::add(const QuerySum& other) {
  value += other.value;
  drift += other.drift;
  square += other.square;
}

double QuerySum::error(std::int64_t tokens) const {
  constexpr double kLambda = 4;
  const double steps = std::sqrt(static_cast<double>(tokens)) + 8;
  return kLambda * (std::sqrt(drift) + kRoundoff * steps * (std::sqrt(square) + std::abs(value)));
}

}  // namespace attn::attnres
