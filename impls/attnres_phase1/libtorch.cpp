// Phase 1 as a PyTorch user writes it, tensor by tensor, on a CPU or a GPU.
//
// Computes   fp32 copies of the sources, a mean square, a matrix product with the queries, logsumexp and
//            exp, a batched product with the weights.
// Mapping    whatever LibTorch chooses, on chunks of tokens.
// Memory     about 512 MB of fp32 copies and results a chunk, from LibTorch's allocator.
// Traffic    every source is read, written and read several times over: memory bandwidth is the limit.
// Rounding   fp32, one rounding of each output.
// Source     PyTorch's documented operators; the formulas of reference/attnres/README.md.
#include <algorithm>

#include "impls/attnres/libtorch_read.h"
#include "reference/attnres_phase1/contract.h"

namespace attn::attnres_phase1 {
namespace {

using Problem = AttnResPhase1::Problem;
using Tensors = AttnResPhase1::Tensors;

void read_all(const Problem& p, const Tensors& t, MemorySpace space) {
  const at::Tensor wt = wrap(t.wt, space)[0][0].to(at::kFloat);
  const at::Tensor out = attnres::token_rows(t.out, space, p);
  const at::Tensor lse = attnres::token_rows(t.lse, space, p);
  const std::int64_t chunk = attnres::torch_chunk(p, p.N + p.S);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk) {
    const std::int64_t count = std::min(chunk, p.tokens() - first);
    const attnres::TorchRead read =
        attnres::torch_read(attnres::torch_sources(t.v, p, first, count, space), wt, p.eps);
    out.narrow(1, first, count).copy_(at::matmul(read.p, read.v).transpose(0, 1));
    lse.narrow(1, first, count).copy_(read.lse.t().unsqueeze(-1));
  }
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  return torch_launch(device, [p, t](MemorySpace space) { read_all(p, t, space); });
}

}  // namespace

extern const Backend<AttnResPhase1> libtorch;
constinit const Backend<AttnResPhase1> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one, on fp32 copies",
             .memory = MemorySpace::kAny,
             .math = "LibTorch in fp32",
             .numerics = NumericsClass::kFp32,
             .deterministic = false},  // PyTorch promises none: its BLAS may split as threads allow
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_phase1
