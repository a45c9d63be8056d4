// The backward of the merge on a CPU: three rows in, two out, and the query's gradient.
//
// Computes   per token: the weights again; with a norm the merged row again and the gradient through it;
//            the logits' gradients and those of both rows; the gradients of the query and of the norm's
//            weight add up over a chunk of tokens.
// Mapping    chunks of tokens -> threads; the chunks' sums are added in order, so that the bits do not
//            depend on the threads.
// Memory     workspace: query and weight, and the chunks' sums of both gradients [64, D], in fp32; 4 D
//            floats a thread.
// Limit      memory: 5 rows a token, 6 where a gradient is added to, one more with a norm beside the output.
// Rounding   fp32, one rounding of each output; the norm is that of the rounded row.
// Source     reference/attnres/README.md.
#include <cstdint>

#include "impls/attnres/cpu_norm.h"
#include "impls/attnres/cpu_rows.h"
#include "impls/attnres/cpu_weights.h"
#include "impls/attnres/two_weights.h"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn::attnres_merge_bwd {
namespace {

using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;
using attnres::element;
using attnres::Store;

attnres::CpuScratch scratch_of(const Problem& p) {
  return {.shared_floats = attnres::CpuWeights::floats(p), .thread_floats = 4 * p.D};
}

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

/// Token t of a chunk, whose sums its shares are added to; `b`: scratch for four rows.
void token_backward(const Problem& p,
                    const Tensors& tensors,
                    attnres::CpuWeights& weights,
                    std::int64_t chunk,
                    std::int64_t t,
                    float* b) {
  const float* query = weights.query();
  float* read = b + p.D;
  float* dout = read + p.D;
  float* result = dout + p.D;
  const DType out = p.out_type();
  const std::int64_t first = t * p.D;
  attnres::widen_row(b, element(tensors.partial.data, p.dtype, first), p.dtype, p.D);
  attnres::widen_row(read, element(tensors.read.data, out, first), out, p.D);
  const float z = static_cast<const float*>(tensors.z.data)[t];
  const float r = attnres::reciprocal_rms(b, p.D, p.eps);
  const float l = r * attnres::dot(query, b, p.D);
  const auto [a, other] = attnres::two_weights(z, l);

  for (std::int64_t d = 0; p.has_norm() && d < p.D; ++d) result[d] = other * read[d] + a * b[d];
  attnres::load_output_gradient(p, tensors.dout, tensors.dnormed, weights.gamma(), t, result, dout,
                                weights.dgamma(chunk));
  for (std::int64_t d = 0; d < p.D; ++d) result[d] = b[d] - read[d];
  const float q = a * other * attnres::dot(dout, result, p.D);
  const float dlse =
      p.dlse == attnres::Option::kOn ? static_cast<const float*>(tensors.dlse.data)[t] : 0.0f;
  const float dl = q + a * dlse;
  static_cast<float*>(tensors.dz.data)[t] = other * dlse - q;

  const float k = l * r * r / static_cast<float>(p.D);
  for (std::int64_t d = 0; d < p.D; ++d) result[d] = a * dout[d] + dl * (r * query[d] - k * b[d]);
  attnres::store_row(element(tensors.dpartial.data, p.grad_type(), first), p.grad_type(), result,
                     p.D, p.dpartial);
  for (std::int64_t d = 0; d < p.D; ++d) result[d] = other * dout[d];
  attnres::store_row(element(tensors.dread.data, out, first), out, result, p.D, Store::kWrite);
  attnres::add_scaled(weights.dwt(chunk), dl * r, b, p.D);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, t, base = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    attnres::CpuWeights weights(base, p);
    weights.load(t.wt, t.gamma);
    attnres::for_each_chunk(
        p.tokens(), scratch_of(p), base, threads,
        [&](std::int64_t chunk, std::int64_t begin, std::int64_t end, float* scratch) {
          weights.begin(chunk);
          for (std::int64_t token = begin; token < end; ++token)
            token_backward(p, t, weights, chunk, token, scratch);
        });
    weights.store_dwt(t.dwt, p.dwt);
    if (p.has_norm()) weights.store_dgamma(t.dgamma, p.dgamma);
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMergeBwd> cpu_fused;
constinit const Backend<AttnResMergeBwd> cpu_fused = {
    .info = {.id = "cpu_fused",
             .summary = "threads; every row is read once, the query's gradient in order",
             .memory = MemorySpace::kHost,
             .math = "fp32",
             .numerics = NumericsClass::kFp32},
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_merge_bwd
