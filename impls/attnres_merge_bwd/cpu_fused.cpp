// The backward of the merge on a CPU: three rows in, two out, and the query's gradient.
//
// Computes   per token: the weights again, the logits' gradients, the gradients of both rows; the query's
//            gradient adds up over a chunk of tokens.
// Mapping    chunks of tokens -> threads; the chunks' sums are added in order, so that the bits do not
//            depend on the threads.
// Memory     workspace: the query and the chunks' sums [64, D] in fp32, 4 D floats a thread.
// Limit      memory: 5 rows a token, 6 where a gradient is added to.
// Rounding   fp32, one rounding of each output.
// Source     reference/attnres/README.md.
#include <algorithm>
#include <cstdint>

#include "impls/attnres/cpu_rows.h"
#include "impls/attnres/two_weights.h"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn::attnres_merge_bwd {
namespace {

using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;
using attnres::element;
using attnres::Store;

attnres::CpuScratch scratch_of(const Problem& p) {
  return {.shared_floats = (1 + attnres::chunk_count(p.tokens())) * p.D, .thread_floats = 4 * p.D};
}

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::size_t workspace_bytes(const Problem& p, const DeviceInfo& device) {
  return scratch_of(p).bytes(device);
}

/// Token t; its share of the query's gradient is added to dwt [D].
void token_backward(const Problem& p,
                    const Tensors& tensors,
                    const float* query,
                    std::int64_t t,
                    float* b,
                    float* dwt) {
  float* read = b + p.D;
  float* dout = read + p.D;
  float* result = dout + p.D;
  const DType out = p.out_type();
  const std::int64_t first = t * p.D;
  attnres::widen_row(b, element(tensors.partial.data, p.dtype, first), p.dtype, p.D);
  attnres::widen_row(read, element(tensors.read.data, out, first), out, p.D);
  attnres::widen_row(dout, element(tensors.dout.data, out, first), out, p.D);
  const float z = static_cast<const float*>(tensors.z.data)[t];
  const float r = attnres::reciprocal_rms(b, p.D, p.eps);
  const float l = r * attnres::dot(query, b, p.D);
  const auto [a, other] = attnres::two_weights(z, l);

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
  attnres::add_scaled(dwt, dl * r, b, p.D);
}

Launch plan(const Problem& p, const Tensors& t, Workspace workspace, const DeviceInfo& device) {
  Launch launch;
  launch.enqueue = [p, t, query = static_cast<float*>(workspace.data),
                    threads = device.threads](Stream) {
    float* partials = query + p.D;
    attnres::widen_row(query, t.wt.data, p.query_type(), p.D);
    attnres::for_each_chunk(
        p.tokens(), scratch_of(p), query, threads,
        [&](std::int64_t chunk, std::int64_t begin, std::int64_t end, float* scratch) {
          std::fill_n(partials + chunk * p.D, p.D, 0.0f);
          for (std::int64_t token = begin; token < end; ++token)
            token_backward(p, t, query, token, scratch, partials + chunk * p.D);
        });
    attnres::sum_chunks(partials, attnres::chunk_count(p.tokens()), p.D,
                        static_cast<float*>(t.dwt.data), p.dwt);
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
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::attnres_merge_bwd
