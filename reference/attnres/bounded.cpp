// Reads over rows with bounds, first order in the errors.
#include "reference/attnres/bounded.h"

#include <cmath>

namespace attn::attnres {
namespace {

/// Roundings of a row's elements are independent: how many deviations of their sum are allowed.
constexpr double kDeviations = 4;

/// How far errors of `row` may move its inner product with `weights`.
double moved(const Row& weights, const Row& error) {
  double squares = 0;
  for (std::size_t d = 0; d < error.size(); ++d)
    squares += weights[d] * weights[d] * error[d] * error[d];
  return kDeviations * std::sqrt(squares);
}

}  // namespace

void Bounded::round(DType dtype) {
  for (std::size_t d = 0; d < value.size(); ++d)
    error[d] += unit_roundoff(dtype) * std::abs(value[d]) + half_subnormal(dtype);
}

void Bounded::add(const Bounded& other) {
  for (std::size_t d = 0; d < value.size(); ++d) {
    value[d] += other.value[d];
    error[d] += other.error[d];
  }
}

BoundedRead::BoundedRead(const Row& query,
                         const std::vector<const Bounded*>& sources,
                         bool merges,
                         const NetworkProblem& p)
    : query_(query), sources_(sources), merges_(merges), problem_(p) {
  const std::size_t N = sources.size();
  const std::size_t D = query.size();
  for (const Bounded* source : sources) {
    const double r = reciprocal_rms(source->value, p.eps);
    const double r_error =
        r * r / static_cast<double>(D) * moved(source->value, source->error) + kSumError;
    Logit l = logit(query, source->value, r);
    l.error += r * moved(query, source->error) + r_error * std::abs(l.value);
    r_.push_back(r);
    r_error_.push_back(r_error);
    logits_.push_back(l);
  }
  const Weights weights = softmax(logits_);
  p_ = weights.p;
  double shift = 0;
  for (std::size_t n = 0; n < N; ++n) shift += p_[n] * logits_[n].error;
  for (std::size_t n = 0; n < N; ++n)
    p_error_.push_back(N == 1 ? 0 : p_[n] * (logits_[n].error + shift + weights.error));

  out = Bounded::zeros(D);
  if (N == 1) {
    out = *sources.front();
    return;
  }
  for (std::size_t d = 0; d < D; ++d) {
    double older = 0;  // what a schedule may round before it merges the last source
    for (std::size_t n = 0; n < N; ++n) {
      out.value[d] += p_[n] * sources[n]->value[d];
      if (n + 1 < N) older = out.value[d];
    }
    for (std::size_t n = 0; n < N; ++n) {
      const double v = sources[n]->value[d];
      out.error[d] += p_[n] * sources[n]->error[d] + p_error_[n] * std::abs(v - out.value[d]) +
                      8 * kRoundoff * p_[n] * std::abs(v);
    }
    if (merges)
      out.error[d] += unit_roundoff(p.dtype) * std::abs(older) + half_subnormal(p.dtype);
  }
  out.round(p.dtype);
}

Dot BoundedRead::product(const Bounded& dout, std::size_t n) const {
  const Bounded& source = *sources_[n];
  Dot c = dot(dout.value, source.value);
  c.error += moved(source.value, dout.error) + moved(dout.value, source.error);
  // Two phases round the older sources' read, and its gradient.
  if (merges_) {
    Row rounding = dout.value;
    for (double& x : rounding) x *= unit_roundoff(problem_.dtype);
    c.error += moved(source.value, rounding);
  }
  return c;
}

void BoundedRead::add_gradients(const Bounded& dout,
                                const std::vector<Bounded*>& to,
                                Bounded& dquery) const {
  const std::size_t N = sources_.size();
  if (N == 1) {
    to.front()->add(dout);
    return;
  }
  std::vector<Dot> c;
  double mean = 0;
  double mean_error = 0;
  for (std::size_t n = 0; n < N; ++n) {
    c.push_back(product(dout, n));
    mean += p_[n] * c[n].value;
  }
  for (std::size_t n = 0; n < N; ++n)
    mean_error += p_[n] * c[n].error + p_error_[n] * std::abs(c[n].value - mean) +
                  4 * kRoundoff * p_[n] * std::abs(c[n].value);
  const double u = merges_ ? unit_roundoff(problem_.dtype) : 0;
  for (std::size_t n = 0; n < N; ++n) {
    const Bounded& source = *sources_[n];
    const double g = p_[n] * (c[n].value - mean);
    const double g_error = p_error_[n] * std::abs(c[n].value - mean) +
                           p_[n] * (c[n].error + mean_error) +
                           4 * kRoundoff * p_[n] * (std::abs(c[n].value) + std::abs(mean));
    const double r = r_[n];
    const double back = r * r / static_cast<double>(query_.size());
    const double l = logits_[n].value;
    for (std::size_t d = 0; d < query_.size(); ++d) {
      const double direct = p_[n] * dout.value[d];
      const double through = r * query_[d];
      const double norm = back * l * source.value[d];
      to[n]->value[d] += direct + g * (through - norm);
      to[n]->error[d] +=
          p_[n] * dout.error[d] + (p_error_[n] + u * p_[n]) * std::abs(dout.value[d]) +
          g_error * std::abs(through - norm) +
          std::abs(g) * (r_error_[n] * (std::abs(through) + 2 * std::abs(norm)) +
                         back * (logits_[n].error * std::abs(source.value[d]) +
                                 std::abs(l) * source.error[d])) +
          8 * kRoundoff * (std::abs(direct) + std::abs(g) * (std::abs(through) + std::abs(norm)));
      dquery.value[d] += g * r * source.value[d];
      dquery.error[d] += r * ((g_error + r_error_[n] * std::abs(g)) * std::abs(source.value[d]) +
                              std::abs(g) * source.error[d]);
    }
  }
}

}  // namespace attn::attnres
