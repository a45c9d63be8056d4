// The backward of the mix with PyTorch's operators and explicit formulas, without autograd.
//
// Computes   the forward's weights again; with a norm the mixed rows and their gradient through it; the
//            gradients of the sources by matrix products, those of query and weight by sums over a chunk.
// Mapping    whatever LibTorch chooses, on chunks of tokens.
// Memory     about 1 GB of fp32 copies and results a chunk, from LibTorch's allocator.
// Traffic    every row several times over: memory bandwidth is the limit.
// Rounding   fp32, one rounding of each output; the norm is that of the rounded row.
// Source     PyTorch's documented operators; the formulas of reference/attnres/README.md.
#include <algorithm>

#include "impls/attnres/libtorch_norm.h"
#include "impls/attnres/libtorch_read_backward.h"
#include "reference/attnres_mix_bwd/contract.h"

namespace attn::attnres_mix_bwd {
namespace {

using Problem = AttnResMixBwd::Problem;
using Tensors = AttnResMixBwd::Tensors;

void backward(const Problem& p, const Tensors& t, MemorySpace space) {
  const at::Tensor wt = wrap(t.wt, space)[0][0].to(at::kFloat);
  attnres::clear_written(t.dwt, p.dwt, space);
  if (p.has_norm()) attnres::clear_written(t.dgamma, p.dgamma, space);
  const attnres::ReadGradients problem = attnres::one_query(p);
  const std::int64_t chunk = attnres::torch_chunk(p, 3 * p.N + 4);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk) {
    const std::int64_t count = std::min(chunk, p.tokens() - first);
    const attnres::TorchRead read =
        attnres::torch_read(attnres::torch_sources(t.v, p, first, count, space), wt, p.eps);
    const at::Tensor mixed = p.has_norm() ? at::matmul(read.p, read.v).select(1, 0) : at::Tensor();
    const at::Tensor dout = attnres::torch_output_gradient(p, {p, first, count, space}, mixed,
                                                           t.dout, t.dnormed, t.gamma, t.dgamma);
    attnres::torch_read_backward(problem, t, read, wt, dout.unsqueeze(1), first, space);
  }
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  return torch_launch(device, [p, t](MemorySpace space) { backward(p, t, space); });
}

}  // namespace

extern const Backend<AttnResMixBwd> libtorch;
constinit const Backend<AttnResMixBwd> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one, explicit formulas instead of autograd",
             .memory = MemorySpace::kAny,
             .math = "LibTorch in fp32",
             .numerics = NumericsClass::kFp32,
             .deterministic = false},  // PyTorch promises none: its BLAS may split as threads allow
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_mix_bwd
