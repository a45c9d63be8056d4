// The backward of the merge of two reads with PyTorch's operators and explicit formulas, without autograd.
//
// Computes   the weights again, one inner product a token, the gradients of rows and normalisers.
// Mapping    whatever LibTorch chooses, on chunks of tokens.
// Memory     about 1 GB of fp32 copies and results a chunk, from LibTorch's allocator.
// Traffic    a read and a write of fp32 rows for every operator: memory bandwidth is the limit.
// Rounding   fp32, one rounding of each output.
// Source     PyTorch's documented operators; the formulas of reference/attnres/README.md.
#include <algorithm>

#include "impls/attnres/libtorch_read.h"
#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn::attnres_merge_pair_bwd {
namespace {

using Problem = AttnResMergePairBwd::Problem;
using Tensors = AttnResMergePairBwd::Tensors;

void backward(const Problem& p, const Tensors& t, MemorySpace space) {
  const std::int64_t chunk = attnres::torch_chunk(p, 5);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk) {
    const attnres::TokenChunk rows{p, first, std::min(chunk, p.tokens() - first), space};
    const at::Tensor a = (rows(t.z_b) - rows(t.z_a)).sigmoid();
    const at::Tensor other = (rows(t.z_a) - rows(t.z_b)).sigmoid();
    const at::Tensor dout = rows(t.dout).to(at::kFloat);
    const at::Tensor difference = rows(t.read_b).to(at::kFloat) - rows(t.read_a).to(at::kFloat);
    const at::Tensor q = a * other * (dout * difference).sum(at::IntArrayRef{-1}, /*keepdim=*/true);
    const bool has_dlse = p.dlse == attnres::Option::kOn;
    rows(t.dz_a).copy_(has_dlse ? other * rows(t.dlse) - q : -q);
    rows(t.dz_b).copy_(has_dlse ? a * rows(t.dlse) + q : q);
    const at::Tensor dread_a = other * dout;  // dout may be where a gradient goes
    const at::Tensor dread_b = a * dout;
    rows(t.dread_a).copy_(dread_a);
    rows(t.dread_b).copy_(dread_b);
  }
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  return torch_launch(device, [p, t](MemorySpace space) { backward(p, t, space); });
}

}  // namespace

extern const Backend<AttnResMergePairBwd> libtorch;
constinit const Backend<AttnResMergePairBwd> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one, explicit formulas instead of autograd",
             .memory = MemorySpace::kAny,
             .math = "LibTorch in fp32",
             .numerics = NumericsClass::kFp32,
             .deterministic = false},  // PyTorch promises none
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_merge_pair_bwd
