// The norm and its gradient: dh = rho g - c h with g = gamma dnormed, c = rho^3 <g, h> / D.
#include "impls/attnres/libtorch_norm.h"

namespace attn::attnres {
namespace {

/// [tokens, 1]
at::Tensor reciprocal_rms(const at::Tensor& h, double eps) {
  return (h.square().mean(-1, /*keepdim=*/true) + eps).rsqrt();
}

/// A weight [D].
at::Tensor weight(const TensorView& view, MemorySpace space) { return wrap(view, space)[0][0][0]; }

at::Tensor rounded(const at::Tensor& x, at::ScalarType type) { return x.to(type).to(at::kFloat); }

}  // namespace

void torch_store_output(const NormFields& p,
                        const TokenChunk& rows,
                        const at::Tensor& mixed,
                        const TensorView& out,
                        const TensorView& normed,
                        const TensorView& gamma) {
  if (p.has_out()) rows(out).copy_(mixed);
  if (!p.has_norm()) return;
  const at::Tensor to = rows(normed);
  const at::Tensor h = rounded(mixed, to.scalar_type());
  to.copy_(h * reciprocal_rms(h, p.norm_eps) * weight(gamma, rows.space).to(at::kFloat));
}

at::Tensor torch_output_gradient(const NormFields& p,
                                 const TokenChunk& rows,
                                 const at::Tensor& mixed,
                                 const TensorView& dout,
                                 const TensorView& dnormed,
                                 const TensorView& gamma,
                                 const TensorView& dgamma) {
  if (!p.has_norm()) return rows(dout).to(at::kFloat);
  const at::Tensor given = rows(dnormed).to(at::kFloat);
  const at::Tensor h = rounded(mixed, rows(dnormed).scalar_type());
  const at::Tensor rho = reciprocal_rms(h, p.norm_eps);
  weight(dgamma, rows.space).add_((given * h * rho).sum(at::IntArrayRef{0}));
  const at::Tensor g = given * weight(gamma, rows.space).to(at::kFloat);
  const at::Tensor c = rho.pow(3) * (g * h).mean(-1, /*keepdim=*/true);
  const at::Tensor dh = rho * g - c * h;
  return p.has_out() ? dh + rows(dout).to(at::kFloat) : dh;
}

}  // namespace attn::attnres
