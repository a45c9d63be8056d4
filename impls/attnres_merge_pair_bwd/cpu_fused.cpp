// The backward of the merge of two reads on a CPU: three rows in, two out.
//
// Computes   per token: the weights again, one inner product, the gradients of rows and normalisers.
// Mapping    chunks of tokens -> threads; the result depends on neither.
// Memory     workspace: 3 D floats a thread.
// Limit      memory: 5 rows a token.
// Rounding   fp32, one rounding of each output.
// Source     reference/attnres/README.md.
#include <cstdint>

#include "impls/attnres/cpu_rows.h"
#include "impls/attnres/two_weights.h"
#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn::attnres_merge_pair_bwd {
namespace {

using Problem = AttnResMergePairBwd::Problem;
using Tensors = AttnResMergePairBwd::Tensors;
using attnres::element;

attnres::CpuScratch scratch_of(const Problem& p) { return {.thread_floats = 3 * p.D}; }

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

void token_backward(const Problem& p, const Tensors& tensors, std::int64_t t, float* dout) {
  float* a = dout + p.D;
  float* difference = a + p.D;
  const std::int64_t first = t * p.D;
  attnres::widen_row(dout, element(tensors.dout.data, p.dtype, first), p.dtype, p.D);
  attnres::widen_row(a, element(tensors.read_a.data, p.dtype, first), p.dtype, p.D);
  attnres::widen_row(difference, element(tensors.read_b.data, p.dtype, first), p.dtype, p.D);
  attnres::add_scaled(difference, -1, a, p.D);
  const attnres::TwoWeights weights =
      attnres::two_weights(static_cast<const float*>(tensors.z_a.data)[t],
                           static_cast<const float*>(tensors.z_b.data)[t]);
  const float dlse =
      p.dlse == attnres::Option::kOn ? static_cast<const float*>(tensors.dlse.data)[t] : 0.0f;
  const float q = weights.a * weights.other * attnres::dot(dout, difference, p.D);
  static_cast<float*>(tensors.dz_a.data)[t] = weights.other * dlse - q;
  static_cast<float*>(tensors.dz_b.data)[t] = weights.a * dlse + q;
  const auto store = [&](const TensorView& to, float weight) {
    for (std::int64_t d = 0; d < p.D; ++d) a[d] = weight * dout[d];
    attnres::store_row(element(to.data, p.dtype, first), p.dtype, a, p.D, attnres::Store::kWrite);
  };
  store(tensors.dread_a, weights.other);
  store(tensors.dread_b, weights.a);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, t, floats = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    attnres::for_each_chunk(
        p.tokens(), scratch_of(p), floats, threads,
        [&](std::int64_t, std::int64_t begin, std::int64_t end, float* scratch) {
          for (std::int64_t token = begin; token < end; ++token)
            token_backward(p, t, token, scratch);
        });
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMergePairBwd> cpu_fused;
constinit const Backend<AttnResMergePairBwd> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary = "threads; every row is read once",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_merge_pair_bwd
