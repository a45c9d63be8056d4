// The norm and its gradient: dh = rho g - c h with g = gamma dnormed, c = rho^3 <g, h> / D.
#include "impls/attnres/libtorch_norm.h"

namespace attn::attnres {
namespace {

/// [tokens, 1]
at::Tensor reciprocal_rms(const at::Tensor& h, double eps) {
  return (h.square().mean(-1, /*keepdim=*/true) + eps).rsqrt();
}

}  // namespace

at::Tensor torch_norm(const at::Tensor& h, const at::Tensor& gamma, double eps) {
  return h * reciprocal_rms(h, eps) * gamma;
}

TorchNormGradient torch_norm_backward(const at::Tensor& h,
                                      const at::Tensor& gamma,
                                      const at::Tensor& dnormed,
                                      double eps) {
  const at::Tensor rho = reciprocal_rms(h, eps);
  const at::Tensor g = dnormed * gamma;
  const at::Tensor c = rho.pow(3) * (g * h).mean(-1, /*keepdim=*/true);
  return {rho * g - c * h, (dnormed * h * rho).sum(at::IntArrayRef{0})};
}

}  // namespace attn::attnres
