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

StoredRow store_row(const BoundedRow& exact, DType dtype) {
  StoredRow row;
  for (std::size_t d = 0; d < exact.value.size(); ++d) {
    const double value = stored(exact.value[d], dtype);
    const double above = stored(exact.value[d] + exact.error[d], dtype);
    const double below = stored(exact.value[d] - exact.error[d], dtype);
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

BoundedRow output_norm(const StoredRow& h, const Row& gamma, double eps) {
  const ReciprocalRms rho = reciprocal_rms(h, eps);
  BoundedRow normed;
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

Dot NormGradient::dgamma(std::size_t d) const {
  const double normed = h.value[d] * rho.value;
  return {dnormed[d] * normed,
          std::abs(dnormed[d]) *
              (rho.value * h.error[d] + std::abs(normed) * (rho.error + 4 * kRoundoff))};
}

NormGradient norm_gradient(StoredRow h, const Row& gamma, Row dnormed, double eps) {
  NormGradient gradient;
  for (std::size_t d = 0; d < gamma.size(); ++d) gradient.g.push_back(gamma[d] * dnormed[d]);
  gradient.dnormed = std::move(dnormed);
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

RowGradient given_gradient(Row dout, std::span<const Row> rows) {
  RowGradient gradient;
  gradient.value = std::move(dout);
  gradient.error.resize(gradient.value.size());
  for (const Row& row : rows) gradient.products.push_back(dot(gradient.value, row));
  return gradient;
}

RowGradient through_norm(const NormGradient& norm, Row dout, std::span<const Row> rows) {
  RowGradient gradient = given_gradient(std::move(dout), rows);
  for (std::size_t d = 0; d < gradient.value.size(); ++d) {
    const Dot dh = norm.dh(d);
    gradient.value[d] += dh.value;
    gradient.error[d] = dh.error + kRoundoff * std::abs(gradient.value[d]);
  }
  for (std::size_t n = 0; n < rows.size(); ++n) {
    const Dot product = norm.product(rows[n]);
    gradient.products[n].value += product.value;
    gradient.products[n].error += product.error;
  }
  return gradient;
}

void store_weight_gradient(std::int64_t tokens,
                           const std::function<NormGradient(std::int64_t t)>& token_norm,
                           const TensorView& held,
                           Store store,
                           Reference& reference) {
  constexpr std::int64_t kChunks = 64;
  const auto D = static_cast<std::size_t>(held.shape[3]);
  std::vector<std::vector<QuerySum>> chunks(kChunks, std::vector<QuerySum>(D));
#pragma omp parallel for
  for (std::int64_t chunk = 0; chunk < kChunks; ++chunk) {
    auto& sums = chunks[static_cast<std::size_t>(chunk)];
    for (std::int64_t t = chunk * tokens / kChunks; t < (chunk + 1) * tokens / kChunks; ++t) {
      const NormGradient norm = token_norm(t);
      for (std::size_t d = 0; d < D; ++d) {
        const Dot share = norm.dgamma(d);
        sums[d].add(share.value, share.error);
      }
    }
  }
  const std::size_t first = reference.begin(reference.outputs.size() - 1);
  for (std::size_t d = 0; d < D; ++d) {
    QuerySum sum;
    for (const auto& chunk : chunks) sum.add(chunk[d]);
    if (store == Store::kAdd)
      sum.add(load_element(held.data, held.dtype, static_cast<std::int64_t>(d)), 0);
    reference.set(first + d, sum.value, sum.error(tokens));
  }
}

}  // namespace attn::attnres
