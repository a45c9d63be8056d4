// The backward of phase 1 with PyTorch's operators and explicit formulas, without autograd.
//
// Computes   the forward's weights again; the products of dout and sources; the gradients of sources by
//            two matrix products, that of the queries by one over all tokens of a chunk.
// Mapping    whatever LibTorch chooses, on chunks of tokens.
// Memory     about 1 GB of fp32 copies and results a chunk, from LibTorch's allocator.
// Traffic    every row several times over: memory bandwidth is the limit.
// Rounding   fp32, one rounding of each output.
// Source     PyTorch's documented operators; the formulas of reference/attnres/README.md.
#include <algorithm>

#include "impls/attnres/libtorch_read.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres_phase1_bwd {
namespace {

using Problem = AttnResPhase1Bwd::Problem;
using Tensors = AttnResPhase1Bwd::Tensors;

/// Gradients of the logits [tokens, S, N].
at::Tensor logit_gradients(const Problem& p,
                           const Tensors& t,
                           const attnres::TorchRead& read,
                           const at::Tensor& dout,
                           std::int64_t first,
                           MemorySpace space) {
  const at::Tensor c = at::matmul(dout, read.v.transpose(1, 2));
  // Of one source the output is the source: no rounding may leave its logit a gradient.
  at::Tensor g =
      p.N == 1 ? at::zeros_like(c) : c - (read.p * c).sum(at::IntArrayRef{-1}, /*keepdim=*/true);
  if (p.dlse == attnres::Option::kOn)
    g = g + attnres::token_rows(t.dlse, space, p).narrow(1, first, dout.size(0)).transpose(0, 1);
  return read.p * g;
}

void store_sources(const Problem& p,
                   const Tensors& t,
                   const at::Tensor& dv,
                   std::int64_t first,
                   MemorySpace space) {
  for (std::int64_t n = 0; n < p.N; ++n) {
    const at::Tensor plane = wrap(t.dv.view(n, p), space)[0][0].narrow(0, first, dv.size(0));
    const at::Tensor own = dv.select(1, n);
    plane.copy_(p.adds_to(n) ? plane.to(at::kFloat) + own : own);
  }
}

void backward(const Problem& p, const Tensors& t, MemorySpace space) {
  const at::Tensor wt = wrap(t.wt, space)[0][0].to(at::kFloat);
  const at::Tensor dwt = wrap(t.dwt, space)[0][0];
  if (p.dwt == attnres::Store::kWrite) dwt.zero_();
  const std::int64_t chunk = attnres::torch_chunk(p, 3 * p.N + p.S);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk) {
    const std::int64_t count = std::min(chunk, p.tokens() - first);
    const attnres::TorchRead read = attnres::torch_read(t.v, p, wt, first, count, space);
    const at::Tensor dout = attnres::token_rows(t.dout, space, p)
                                .narrow(1, first, count)
                                .transpose(0, 1)
                                .to(at::kFloat);
    const at::Tensor g = logit_gradients(p, t, read, dout, first, space);
    const at::Tensor gr = g * read.r.unsqueeze(1);
    const at::Tensor k =
        (g * read.logits).sum(at::IntArrayRef{1}) * read.r.square() / static_cast<double>(p.D);
    const at::Tensor dv = at::matmul(read.p.transpose(1, 2), dout) +
                          at::matmul(gr.transpose(1, 2), wt) - k.unsqueeze(-1) * read.v;
    store_sources(p, t, dv, first, space);
    dwt.add_(at::matmul(gr.transpose(0, 1).reshape({p.S, count * p.N}),
                        read.v.reshape({count * p.N, p.D})));
  }
}

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  return torch_launch(device, [p, t](MemorySpace space) { backward(p, t, space); });
}

}  // namespace

extern const Backend<AttnResPhase1Bwd> libtorch;
constinit const Backend<AttnResPhase1Bwd> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one, explicit formulas instead of autograd",
             .memory = MemorySpace::kAny,
             .math = "LibTorch in fp32",
             .numerics = NumericsClass::kFp32,
             .deterministic = false},  // PyTorch promises none: its BLAS may split as threads allow
    .supports = supports,
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_phase1_bwd
