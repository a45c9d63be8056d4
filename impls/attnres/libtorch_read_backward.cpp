// LibTorch's operators for the backward of a read over depth: explicit formulas, no autograd.
#include "impls/attnres/libtorch_read_backward.h"

namespace attn::attnres {
namespace {

/// Gradients of the logits [tokens, S, N].
at::Tensor logit_gradients(const ReadGradients& p,
                           const GradientTensors& t,
                           const TorchRead& read,
                           const at::Tensor& dout,
                           std::int64_t first,
                           MemorySpace space) {
  const at::Tensor c = at::matmul(dout, read.v.transpose(1, 2));
  // Of one source the output is the source: no rounding may leave its logit a gradient.
  at::Tensor g =
      p.N == 1 ? at::zeros_like(c) : c - (read.p * c).sum(at::IntArrayRef{-1}, /*keepdim=*/true);
  if (p.dlse == Option::kOn)
    g = g + token_rows(t.dlse, space, p).narrow(1, first, dout.size(0)).transpose(0, 1);
  return read.p * g;
}

void store_sources(const ReadGradients& p,
                   const GradientTensors& t,
                   const at::Tensor& dv,
                   std::int64_t first,
                   MemorySpace space) {
  for (std::int64_t n = 0; n < p.N; ++n) {
    const at::Tensor plane = wrap(t.dv.view(n, p), space)[0][0].narrow(0, first, dv.size(0));
    const at::Tensor own = dv.select(1, n);
    plane.copy_(p.adds_to(n) ? plane.to(at::kFloat) + own : own);
  }
}

}  // namespace

void clear_written(const TensorView& gradient, Store store, MemorySpace space) {
  if (store == Store::kWrite) wrap(gradient, space).zero_();
}

void torch_read_backward(const ReadGradients& p,
                         const GradientTensors& t,
                         const TorchRead& read,
                         const at::Tensor& wt,
                         const at::Tensor& dout,
                         std::int64_t first,
                         MemorySpace space) {
  const std::int64_t rows = dout.size(0) * p.N;
  const at::Tensor g = logit_gradients(p, t, read, dout, first, space);
  const at::Tensor gr = g * read.r.unsqueeze(1);
  const at::Tensor k =
      (g * read.logits).sum(at::IntArrayRef{1}) * read.r.square() / static_cast<double>(p.D);
  const at::Tensor dv = at::matmul(read.p.transpose(1, 2), dout) +
                        at::matmul(gr.transpose(1, 2), wt) - k.unsqueeze(-1) * read.v;
  store_sources(p, t, dv, first, space);
  wrap(t.dwt, space)[0][0].add_(
      at::matmul(gr.transpose(0, 1).reshape({p.S, rows}), read.v.reshape({rows, p.D})));
}

}  // namespace attn::attnres
