// The merge on a CPU: one read of the partial sum and of what phase 1 has read.
//
// Computes   per token: the sum with the sublayer's output where there is one, rounded and stored; its
//            logit, the two weights, the merged row and its norm.
// Mapping    chunks of tokens -> threads; the result depends on neither.
// Memory     workspace: the query and the norm's weight in fp32, and 2 D floats a thread.
// Limit      memory: 3 rows a token, 5 with an update, one more with a norm beside the output.
// Rounding   fp32, one rounding of each output; logit and norm are those of the rounded rows.
// Source     reference/attnres/README.md.
#include <cstdint>

#include "impls/attnres/cpu_norm.h"
#include "impls/attnres/cpu_rows.h"
#include "impls/attnres/two_weights.h"
#include "reference/attnres_merge/contract.h"

namespace attn::attnres_merge {
namespace {

using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;
using attnres::element;

attnres::CpuScratch scratch_of(const Problem& p) {
  return {.shared_floats = 2 * p.D, .thread_floats = 2 * p.D};
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

/// `shared`: the query [D], the norm's weight [D]; `b`: scratch for two rows.
void merge_token(
    const Problem& p, const Tensors& tensors, const float* shared, std::int64_t t, float* b) {
  float* read = b + p.D;
  const DType out = p.out_type();
  const std::int64_t first = t * p.D;
  attnres::widen_row(b, element(tensors.partial.data, p.dtype, first), p.dtype, p.D);
  if (p.update == attnres::Option::kOn)
    attnres::add_update(b, element(tensors.update.data, p.dtype, first),
                        element(tensors.sum.data, p.dtype, first), p.dtype, p.D);
  attnres::widen_row(read, element(tensors.read.data, out, first), out, p.D);
  const float z = static_cast<const float*>(tensors.z.data)[t];
  const float l = attnres::reciprocal_rms(b, p.D, p.eps) * attnres::dot(shared, b, p.D);
  const attnres::TwoWeights weights = attnres::two_weights(z, l);
  for (std::int64_t d = 0; d < p.D; ++d) read[d] = weights.other * read[d] + weights.a * b[d];
  attnres::store_output(p, tensors.out, tensors.normed, shared + p.D, t, read);
  if (p.lse == attnres::Option::kOn)
    static_cast<float*>(tensors.lse.data)[t] = attnres::two_lse(z, l);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, t, shared = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    attnres::widen_row(shared, t.wt.data, p.query_type(), p.D);
    if (p.has_norm()) attnres::widen_row(shared + p.D, t.gamma.data, p.query_type(), p.D);
    attnres::for_each_token(
        p.tokens(), scratch_of(p), shared, threads,
        [&](std::int64_t token, float* scratch) { merge_token(p, t, shared, token, scratch); });
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMerge> cpu_fused;
constinit const Backend<AttnResMerge> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary = "threads; every row is read once",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_merge
