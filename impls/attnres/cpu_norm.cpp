// The norm of a row and its gradient: dh = rho g - c h with g = gamma dnormed, c = rho^3 <g, h> / D.
#include "impls/attnres/cpu_norm.h"

#include "impls/attnres/cpu_rows.h"

namespace attn::attnres {
namespace {

/// Row t of a dense tensor [tokens, D].
void load(const TensorView& from, std::int64_t t, float* row) {
  const std::int64_t D = from.shape[3];
  widen_row(row, element(from.data, from.dtype, t * D), from.dtype, D);
}

void store(const TensorView& to, std::int64_t t, const float* row) {
  const std::int64_t D = to.shape[3];
  store_row(element(to.data, to.dtype, t * D), to.dtype, row, D, Store::kWrite);
}

/// x[d] as a tensor of `dtype` holds it.
void round_row(float* x, DType dtype, std::int64_t D) {
  for (std::int64_t d = 0; d < D; ++d) {
    float held = 0;
    store_element(&held, dtype, 0, x[d]);
    x[d] = load_element(&held, dtype, 0);
  }
}

/// dnormed becomes the gradient of h; the token's share is added to dgamma.
void normalise_backward(
    const float* h, const float* gamma, double eps, std::int64_t D, float* dnormed, float* dgamma) {
  const float rho = reciprocal_rms(h, D, eps);
  for (std::int64_t d = 0; d < D; ++d) {
    dgamma[d] += dnormed[d] * (h[d] * rho);
    dnormed[d] *= gamma[d];
  }
  const float c = rho * rho * rho * dot(dnormed, h, D) / static_cast<float>(D);
  for (std::int64_t d = 0; d < D; ++d) dnormed[d] = rho * dnormed[d] - c * h[d];
}

}  // namespace

void store_output(const NormFields& p,
                  const TensorView& out,
                  const TensorView& normed,
                  const float* gamma,
                  std::int64_t t,
                  float* row) {
  if (p.has_out()) store(out, t, row);
  if (!p.has_norm()) return;
  const std::int64_t D = normed.shape[3];
  round_row(row, normed.dtype, D);
  const float rho = reciprocal_rms(row, D, p.norm_eps);
  for (std::int64_t d = 0; d < D; ++d) row[d] = row[d] * rho * gamma[d];
  store(normed, t, row);
}

void load_output_gradient(const NormFields& p,
                          const TensorView& given,
                          const TensorView& dnormed,
                          const float* gamma,
                          std::int64_t t,
                          float* row,
                          float* dout,
                          float* dgamma) {
  if (!p.has_norm()) return load(given, t, dout);
  const std::int64_t D = dnormed.shape[3];
  round_row(row, dnormed.dtype, D);
  load(dnormed, t, dout);
  normalise_backward(row, gamma, p.norm_eps, D, dout, dgamma);
  if (!p.has_out()) return;
  load(given, t, row);
  add_scaled(dout, 1, row, D);
}

}  // namespace attn::attnres
