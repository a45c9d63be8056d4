// The backward of the merge of two reads in fp64, token by token.
#include "reference/attnres/merge.h"
#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn {

attnres::Reference AttnResMergePairBwd::oracle(const Problem& p, const Tensors& tensors) {
  using attnres::Dot;
  using attnres::Row;
  Reference reference(tensor_specs(p), 0);
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const Row dout = attnres::load_row(tensors.dout, 0, t / p.T, t % p.T);
    const Row a = attnres::load_row(tensors.read_a, 0, t / p.T, t % p.T);
    Row difference = attnres::load_row(tensors.read_b, 0, t / p.T, t % p.T);
    for (std::size_t d = 0; d < a.size(); ++d) difference[d] -= a[d];
    const attnres::PairWeights weights =
        attnres::pair_weights(load_element(tensors.z_a.data, DType::kF32, t),
                              load_element(tensors.z_b.data, DType::kF32, t));
    const double dlse =
        p.dlse == attnres::Option::kOn ? load_element(tensors.dlse.data, DType::kF32, t) : 0.0;
    const attnres::PairGradient gradient =
        attnres::pair_gradient(weights, attnres::dot(dout, difference), dlse);
    const auto token = static_cast<std::size_t>(t);
    const auto set = [&](std::size_t output, std::size_t at, const Dot& x) {
      reference.set(reference.begin(output) + at, x.value, x.error);
    };
    for (std::size_t d = 0; d < dout.size(); ++d) {
      set(0, token * dout.size() + d, attnres::share(weights, weights.other, dout[d]));
      set(1, token * dout.size() + d, attnres::share(weights, weights.a, dout[d]));
    }
    set(2, token, gradient.dz);
    set(3, token, gradient.dl);
  }
  return reference;
}

}  // namespace attn
