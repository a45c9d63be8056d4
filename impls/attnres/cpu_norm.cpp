// The norm of a row and its gradient: dh = rho g - c h with g = gamma dnormed, c = rho^3 <g, h> / D.
#include "impls/attnres/cpu_norm.h"

#include "impls/attnres/cpu_rows.h"

namespace attn::attnres {

void round_row(float* x, DType dtype, std::int64_t D) {
  for (std::int64_t d = 0; d < D; ++d) {
    float held = 0;
    store_element(&held, dtype, 0, x[d]);
    x[d] = load_element(&held, dtype, 0);
  }
}

void normalise_row(float* h, const float* gamma, double eps, std::int64_t D) {
  const float rho = reciprocal_rms(h, D, eps);
  for (std::int64_t d = 0; d < D; ++d) h[d] = h[d] * rho * gamma[d];
}

void normalise_row_backward(
    const float* h, const float* gamma, double eps, std::int64_t D, float* dnormed, float* dgamma) {
  const float rho = reciprocal_rms(h, D, eps);
  for (std::int64_t d = 0; d < D; ++d) {
    dgamma[d] += dnormed[d] * (h[d] * rho);
    dnormed[d] *= gamma[d];
  }
  const float c = rho * rho * rho * dot(dnormed, h, D) / static_cast<float>(D);
  for (std::int64_t d = 0; d < D; ++d) dnormed[d] = rho * dnormed[d] - c * h[d];
}

}  // namespace attn::attnres
