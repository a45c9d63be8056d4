// The backward of the merge with PyTorch's operators and explicit formulas, without autograd.
//
// Computes   the two weights again; with a norm the merged rows and their gradient through it; the logits'
//            gradients, the rows' gradients; the query's gradient by a matrix-vector product over all tokens
//            of a chunk.
// Mapping    whatever LibTorch chooses, on chunks of tokens.
// Memory     about 1 GB of fp32 copies and results a chunk, from LibTorch's allocator.
// Traffic    a read and a write of fp32 rows for every operator: memory bandwidth is the limit.
// Rounding   fp32, one rounding of each output; the norm is that of the rounded row.
// Source     PyTorch's documented operators; the formulas of reference/attnres/README.md.
#include <algorithm>

#include "impls/attnres/libtorch_norm.h"
#include "impls/attnres/libtorch_read_backward.h"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn::attnres_merge_bwd {
namespace {

using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;

/// Tokens [first, first + count); returns their share of the query's gradient [D].
at::Tensor chunk_backward(const Problem& p,
                          const Tensors& t,
                          const at::Tensor& wt,
                          std::int64_t first,
                          std::int64_t count,
                          MemorySpace space) {
  const attnres::TokenChunk rows{p, first, count, space};
  const at::Tensor b = rows(t.partial).to(at::kFloat);
  const at::Tensor read = rows(t.read).to(at::kFloat);
  const at::Tensor r = (b.square().mean(-1, /*keepdim=*/true) + p.eps).rsqrt();
  const at::Tensor l = at::matmul(b, wt).unsqueeze(-1) * r;
  const at::Tensor a = (l - rows(t.z)).sigmoid();
  const at::Tensor other = (rows(t.z) - l).sigmoid();
  const at::Tensor dout =
      attnres::torch_output_gradient(p, rows, p.has_norm() ? other * read + a * b : at::Tensor(),
                                     t.dout, t.dnormed, t.gamma, t.dgamma);
  const at::Tensor q = a * other * (dout * (b - read)).sum(at::IntArrayRef{-1}, /*keepdim=*/true);
  at::Tensor dl = q;
  at::Tensor dz = -q;
  if (p.dlse == attnres::Option::kOn) {
    dl = dl + a * rows(t.dlse);
    dz = dz + other * rows(t.dlse);
  }
  rows(t.dz).copy_(dz);
  const at::Tensor k = l * r.square() / static_cast<double>(p.D);
  const at::Tensor db = a * dout + dl * (r * wt - k * b);
  const at::Tensor to = rows(t.dpartial);
  to.copy_(p.dpartial == attnres::Store::kAdd ? to.to(at::kFloat) + db : db);
  rows(t.dread).copy_(other * dout);  // last: it may be where dout or the read is
  return at::matmul(b.t(), dl * r).squeeze(-1);
}

void backward(const Problem& p, const Tensors& t, MemorySpace space) {
  const at::Tensor wt = wrap(t.wt, space)[0][0][0].to(at::kFloat);
  const at::Tensor dwt = wrap(t.dwt, space)[0][0][0];
  attnres::clear_written(t.dwt, p.dwt, space);
  if (p.has_norm()) attnres::clear_written(t.dgamma, p.dgamma, space);
  const std::int64_t chunk = attnres::torch_chunk(p, 6);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk)
    dwt.add_(chunk_backward(p, t, wt, first, std::min(chunk, p.tokens() - first), space));
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  return torch_launch(device, [p, t](MemorySpace space) { backward(p, t, space); });
}

}  // namespace

extern const Backend<AttnResMergeBwd> libtorch;
constinit const Backend<AttnResMergeBwd> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one, explicit formulas instead of autograd",
             .memory = MemorySpace::kAny,
             .math = "LibTorch in fp32",
             .numerics = NumericsClass::kFp32,
             .deterministic = false},  // PyTorch promises none: its BLAS may split as threads allow
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_merge_bwd
