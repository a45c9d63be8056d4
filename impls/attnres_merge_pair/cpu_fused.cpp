// The merge of two reads on a CPU: one read of each.
//
// Computes   per token: the two weights from the normalisers, the merged row and its normaliser.
// Mapping    chunks of tokens -> threads; the result depends on neither.
// Memory     workspace: 2 D floats a thread.
// Limit      memory: 3 rows a token.
// Rounding   fp32, one rounding of each output.
// Source     reference/attnres/README.md.
#include <cstdint>

#include "impls/attnres/cpu_rows.h"
#include "impls/attnres/two_weights.h"
#include "reference/attnres_merge_pair/contract.h"

namespace attn::attnres_merge_pair {
namespace {

using Problem = AttnResMergePair::Problem;
using Tensors = AttnResMergePair::Tensors;
using attnres::element;

attnres::CpuScratch scratch_of(const Problem& p) { return {.thread_floats = 2 * p.D}; }

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

void merge_token(const Problem& p, const Tensors& tensors, std::int64_t t, float* a) {
  float* b = a + p.D;
  const std::int64_t first = t * p.D;
  attnres::widen_row(a, element(tensors.read_a.data, p.dtype, first), p.dtype, p.D);
  attnres::widen_row(b, element(tensors.read_b.data, p.dtype, first), p.dtype, p.D);
  const float z_a = static_cast<const float*>(tensors.z_a.data)[t];
  const float z_b = static_cast<const float*>(tensors.z_b.data)[t];
  const attnres::TwoWeights weights = attnres::two_weights(z_a, z_b);
  for (std::int64_t d = 0; d < p.D; ++d) a[d] = weights.other * a[d] + weights.a * b[d];
  attnres::store_row(element(tensors.out.data, p.dtype, first), p.dtype, a, p.D,
                     attnres::Store::kWrite);
  static_cast<float*>(tensors.lse.data)[t] = attnres::two_lse(z_a, z_b);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, t, floats = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    attnres::for_each_token(
        p.tokens(), scratch_of(p), floats, threads,
        [&](std::int64_t token, float* scratch) { merge_token(p, t, token, scratch); });
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMergePair> cpu_fused;
constinit const Backend<AttnResMergePair> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary = "threads; every row is read once",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_merge_pair
