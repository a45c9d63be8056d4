// The merge of two reads in fp64, token by token.
#include <cmath>

#include "reference/attnres/merge.h"
#include "reference/attnres_merge_pair/contract.h"

namespace attn {

attnres::Reference AttnResMergePair::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, specs.size());
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const attnres::Row a = attnres::load_row(tensors.read_a, 0, t / p.T, t % p.T);
    const attnres::Row b = attnres::load_row(tensors.read_b, 0, t / p.T, t % p.T);
    const attnres::PairWeights weights =
        attnres::pair_weights(load_element(tensors.z_a.data, DType::kF32, t),
                              load_element(tensors.z_b.data, DType::kF32, t));
    const auto first = static_cast<std::size_t>(t * p.D);
    for (std::size_t d = 0; d < a.size(); ++d) {
      const attnres::Dot out = attnres::mixed(weights, a[d], b[d]);
      reference.set(first + d, out.value, out.error);
    }
    reference.set(reference.begin(1) + static_cast<std::size_t>(t), weights.lse,
                  8 * attnres::kRoundoff * (1 + std::abs(weights.lse)));
  }
  return reference;
}

}  // namespace attn
