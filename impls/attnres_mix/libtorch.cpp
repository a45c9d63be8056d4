// The mix as a PyTorch user writes it, tensor by tensor, on a CPU or a GPU.
//
// Computes   fp32 copies of the sources, the last one updated; a mean square, a matrix product with the
//            query, logsumexp and exp, a batched product with the weights, the norm of the rounded rows.
// Mapping    whatever LibTorch chooses, on chunks of tokens.
// Memory     about 512 MB of fp32 copies and results a chunk, from LibTorch's allocator.
// Traffic    every source is read, written and read several times over: memory bandwidth is the limit.
// Rounding   fp32, one rounding of each output; the norm is that of the rounded row.
// Source     PyTorch's documented operators; the formulas of reference/attnres/README.md.
#include <algorithm>

#include "impls/attnres/libtorch_norm.h"
#include "impls/attnres/libtorch_read.h"
#include "reference/attnres_mix/contract.h"

namespace attn::attnres_mix {
namespace {

using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;
using attnres::Option;

/// Tokens [first, first + count).
void mix_chunk(const Problem& p,
               const Tensors& t,
               const at::Tensor& wt,
               std::int64_t first,
               std::int64_t count,
               MemorySpace space) {
  const attnres::TokenChunk rows{p, first, count, space};
  at::Tensor v = attnres::torch_sources(t.v, p, first, count, space);
  if (p.update == Option::kOn) {
    const at::Tensor last = v.select(1, p.N - 1);
    last.copy_(attnres::torch_sum(last, rows(t.update), rows(t.sum)));
  }
  const attnres::TorchRead read = attnres::torch_read(v, wt, p.eps);
  if (p.lse == Option::kOn) rows(t.lse).copy_(read.lse);
  if (p.weights == Option::kOn) rows(t.weights).copy_(read.p.select(1, 0));
  attnres::torch_store_output(p, rows, at::matmul(read.p, read.v).select(1, 0), t.out, t.normed,
                              t.gamma);
}

void mix_all(const Problem& p, const Tensors& t, MemorySpace space) {
  const at::Tensor wt = wrap(t.wt, space)[0][0].to(at::kFloat);
  const std::int64_t chunk = attnres::torch_chunk(p, p.N + 3);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk)
    mix_chunk(p, t, wt, first, std::min(chunk, p.tokens() - first), space);
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  return torch_launch(device, [p, t](MemorySpace space) { mix_all(p, t, space); });
}

}  // namespace

extern const Backend<AttnResMix> libtorch;
constinit const Backend<AttnResMix> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one, on fp32 copies",
             .memory = MemorySpace::kAny,
             .math = "LibTorch in fp32",
             .numerics = NumericsClass::kFp32,
             .deterministic = false},  // PyTorch promises none: its BLAS may split as threads allow
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_mix
