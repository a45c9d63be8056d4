// The merge of two reads in fp64 on the GPU: the definitions of oracle.cpp.
#include <optional>
#include <utility>

#include "reference/attnres/merge_device.cuh"
#include "reference/attnres_merge_pair/contract.h"

namespace attn {
namespace {

using namespace attnres;

/// Element i of the merged reads, and the normaliser beside a token's first.
__global__ void __launch_bounds__(kOracleThreads) merge_element(const AttnResMergePair::Tensors in,
                                                                std::int64_t count,
                                                                std::int64_t D,
                                                                const AnswerWriter out,
                                                                const AnswerWriter lse) {
  const std::int64_t i = thread_index();
  if (i >= count) return;
  const std::int64_t t = i / D;
  const PairWeights weights = device::pair_weights(load_element(in.z_a.data, in.z_a.dtype, t),
                                                   load_element(in.z_b.data, in.z_b.dtype, t));
  out.set(i, device::mixed(weights, load_element(in.read_a.data, in.read_a.dtype, i),
                           load_element(in.read_b.data, in.read_b.dtype, i)));
  if (i % D == 0) lse.set(t, weights.lse, 8 * kRoundoff * (1 + fabs(weights.lse)));
}

}  // namespace

std::optional<Reference> AttnResMergePair::oracle_on_device(const Problem& p,
                                                            const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  OwnedAnswer answer(specs, specs.size());
  const std::int64_t count = p.tokens() * p.D;
  if (count > 0) {
    merge_element<<<ctas_for(count), kOracleThreads>>>(tensors, count, p.D, answer.output(0),
                                                       answer.output(1));
    CUDA_CHECK_LAUNCH();
  }
  return std::move(answer).finish();
}

}  // namespace attn
