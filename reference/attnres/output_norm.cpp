// The output's norm: bounds are sums of magnitudes, as a rounded row has few elements with an error.
#include "reference/attnres/output_norm.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace attn::attnres {
namespace {

double stored(double x, DType dtype) {
  float held = 0;
  store_element(&held, dtype, 0, static_cast<float>(x));
  return load_element(&held, dtype, 0);
}

/// sum |x| error
double carried(const Row& x, const Row& error) {
  double sum = 0;
  for (std::size_t d = 0; d < x.size(); ++d) sum += std::abs(x[d]) * error[d];
  return sum;
}

}  // namespace

StoredRow store_row(const Row& exact, const Row& bound, DType dtype) {
  StoredRow row;
  for (std::size_t d = 0; d < exact.size(); ++d) {
    const double value = stored(exact[d], dtype);
    const double above = stored(exact[d] + bound[d], dtype);
    const double below = stored(exact[d] - bound[d], dtype);
    row.value.push_back(value);
    row.error.push_back(std::max(above - value, value - below));
  }
  return row;
}

ReciprocalRms reciprocal_rms(const StoredRow& h, double eps) {
  const double rho = reciprocal_rms(h.value, eps);
  const double mean_error = (dot(h.value, h.value).error + 2 * carried(h.value, h.error)) /
                            static_cast<double>(h.value.size());
  return {rho, rho * rho * mean_error / 2 + 4 * kRoundoff};
}

NormedRow output_norm(const StoredRow& h, const Row& gamma, double eps) {
  const ReciprocalRms rho = reciprocal_rms(h, eps);
  NormedRow normed;
  for (std::size_t d = 0; d < gamma.size(); ++d) {
    const double weight = gamma[d] * rho.value;
    normed.value.push_back(weight * h.value[d]);
    normed.error.push_back(std::abs(weight) * h.error[d] +
                           std::abs(weight * h.value[d]) * (rho.error + 4 * kRoundoff));
  }
  return normed;
}

Dot NormGradient::dh(std::size_t d) const {
  const double direct = rho.value * g[d];
  const double back = c * h.value[d];
  return {direct - back, std::abs(direct) * rho.error + c_error * std::abs(h.value[d]) +
                             std::abs(c) * h.error[d] +
                             4 * kRoundoff * (std::abs(direct) + std::abs(back))};
}

Dot NormGradient::product(const Row& x) const {
  const Dot direct = dot(g, x);
  const Dot back = dot(h.value, x);
  return {rho.value * direct.value - c * back.value,
          rho.value * (direct.error + std::abs(direct.value) * (rho.error + 4 * kRoundoff)) +
              std::abs(c) * (back.error + carried(x, h.error)) + c_error * std::abs(back.value)};
}

NormGradient norm_gradient(StoredRow h, const Row& gamma, const Row& dnormed, double eps) {
  NormGradient gradient;
  for (std::size_t d = 0; d < gamma.size(); ++d) gradient.g.push_back(gamma[d] * dnormed[d]);
  gradient.rho = reciprocal_rms(h, eps);
  const double rho = gradient.rho.value;
  const double cube = rho * rho * rho / static_cast<double>(gamma.size());
  const Dot product = dot(gradient.g, h.value);
  gradient.c = cube * product.value;
  gradient.c_error = cube * (product.error + carried(gradient.g, h.error)) +
                     std::abs(gradient.c) * (3 * gradient.rho.error + 4 * kRoundoff);
  gradient.h = std::move(h);
  return gradient;
}

}  // namespace attn::attnres
