// The merge as a PyTorch user writes it, tensor by tensor, on a CPU or a GPU.
//
// Computes   the updated sum, its mean square and product with the query, two sigmoids, the mix, its norm.
// Mapping    whatever LibTorch chooses, on chunks of tokens.
// Memory     about 1 GB of fp32 copies and results a chunk, from LibTorch's allocator.
// Traffic    a read and a write of fp32 rows for every operator: memory bandwidth is the limit.
// Rounding   fp32, one rounding of each output; the norm is that of the rounded row.
// Source     PyTorch's documented operators; the formulas of reference/attnres/README.md.
#include <algorithm>

#include "impls/attnres/libtorch_norm.h"
#include "reference/attnres_merge/contract.h"

namespace attn::attnres_merge {
namespace {

using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;
using attnres::Option;

void merge_all(const Problem& p, const Tensors& t, MemorySpace space) {
  const at::Tensor wt = wrap(t.wt, space)[0][0][0].to(at::kFloat);
  const std::int64_t chunk = attnres::torch_chunk(p, 4);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk) {
    const attnres::TokenChunk rows{p, first, std::min(chunk, p.tokens() - first), space};
    at::Tensor b = rows(t.partial).to(at::kFloat);
    if (p.update == Option::kOn) b = attnres::torch_sum(b, rows(t.update), rows(t.sum));
    const at::Tensor read = rows(t.read).to(at::kFloat);
    const at::Tensor z = rows(t.z);
    const at::Tensor r = (b.square().mean(-1, /*keepdim=*/true) + p.eps).rsqrt();
    const at::Tensor l = at::matmul(b, wt).unsqueeze(-1) * r;
    attnres::torch_store_output(p, rows, (z - l).sigmoid() * read + (l - z).sigmoid() * b, t.out,
                                t.normed, t.gamma);
    if (p.lse == Option::kOn) rows(t.lse).copy_(at::logaddexp(z, l));
  }
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  return torch_launch(device, [p, t](MemorySpace space) { merge_all(p, t, space); });
}

}  // namespace

extern const Backend<AttnResMerge> libtorch;
constinit const Backend<AttnResMerge> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one, on fp32 copies",
             .memory = MemorySpace::kAny,
             .math = "LibTorch in fp32",
             .numerics = NumericsClass::kFp32,
             .deterministic = false},  // PyTorch promises none: its BLAS may split as threads allow
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_merge
