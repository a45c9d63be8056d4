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

#include "impls/attnres/libtorch_read_backward.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres_phase1_bwd {
namespace {

using Problem = AttnResPhase1Bwd::Problem;
using Tensors = AttnResPhase1Bwd::Tensors;

void backward(const Problem& p, const Tensors& t, MemorySpace space) {
  const at::Tensor wt = wrap(t.wt, space)[0][0].to(at::kFloat);
  attnres::clear_written(t.dwt, p.dwt, space);
  const std::int64_t chunk = attnres::torch_chunk(p, 3 * p.N + p.S);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk) {
    const std::int64_t count = std::min(chunk, p.tokens() - first);
    const attnres::TorchRead read =
        attnres::torch_read(attnres::torch_sources(t.v, p, first, count, space), wt, p.eps);
    const at::Tensor dout = attnres::token_rows(t.dout, space, p)
                                .narrow(1, first, count)
                                .transpose(0, 1)
                                .to(at::kFloat);
    attnres::torch_read_backward(p, t, read, wt, dout, first, space);
  }
}

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
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_phase1_bwd
