// The merge of two reads as a PyTorch user writes it, on a CPU or a GPU.
//
// Computes   two sigmoids of the normalisers' difference, the mix, the sum of exponentials' logarithm.
// Mapping    whatever LibTorch chooses, on chunks of tokens.
// Memory     about 1 GB of fp32 copies and results a chunk, from LibTorch's allocator.
// Traffic    a read and a write of fp32 rows for every operator: memory bandwidth is the limit.
// Rounding   fp32, one rounding of each output.
// Source     PyTorch's documented operators; the formulas of reference/attnres/README.md.
#include <algorithm>

#include "impls/attnres/libtorch_read.h"
#include "reference/attnres_merge_pair/contract.h"

namespace attn::attnres_merge_pair {
namespace {

using Problem = AttnResMergePair::Problem;
using Tensors = AttnResMergePair::Tensors;

void merge_all(const Problem& p, const Tensors& t, MemorySpace space) {
  const std::int64_t chunk = attnres::torch_chunk(p, 4);
  for (std::int64_t first = 0; first < p.tokens(); first += chunk) {
    const attnres::TokenChunk rows{p, first, std::min(chunk, p.tokens() - first), space};
    const at::Tensor z_a = rows(t.z_a);
    const at::Tensor z_b = rows(t.z_b);
    rows(t.out).copy_((z_a - z_b).sigmoid() * rows(t.read_a).to(at::kFloat) +
                      (z_b - z_a).sigmoid() * rows(t.read_b).to(at::kFloat));
    rows(t.lse).copy_(at::logaddexp(z_a, z_b));
  }
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  return torch_launch(device, [p, t](MemorySpace space) { merge_all(p, t, space); });
}

}  // namespace

extern const Backend<AttnResMergePair> libtorch;
constinit const Backend<AttnResMergePair> libtorch = {
    .info = {.id = "libtorch",
             .summary = "PyTorch's operators one by one, on fp32 copies",
             .memory = MemorySpace::kAny,
             .math = "LibTorch in fp32",
             .numerics = NumericsClass::kFp32,
             .deterministic = false},  // PyTorch promises none
    .plan = plan,
    .trim = trim_torch_cache};

}  // namespace attn::attnres_merge_pair
