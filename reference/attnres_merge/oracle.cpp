// The merge in fp64, token by token.
#include "reference/attnres/merge.h"
#include "reference/attnres/mix.h"
#include "reference/attnres_merge/contract.h"

namespace attn {

using attnres::Row;
attnres::Reference AttnResMerge::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, specs.size());
  const Row query = attnres::load_row(tensors.wt, 0, 0, 0);
  const bool updates = p.update == attnres::Option::kOn;
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const auto row = [&](const TensorView& view) {
      return attnres::load_row(view, 0, t / p.T, t % p.T);
    };
    const Row b = updates ? attnres::rounded_sum(row(tensors.partial), row(tensors.update), p.dtype)
                          : row(tensors.partial);
    const Row read = row(tensors.read);
    const double z = load_element(tensors.z.data, DType::kF32, t);
    const attnres::Merge merge = attnres::merge(query, b, z, p.eps);
    const auto first = static_cast<std::size_t>(t * p.D);
    const std::size_t sums = reference.begin(reference.outputs.size() - 1);
    for (std::size_t d = 0; d < b.size(); ++d) {
      const attnres::Dot out = attnres::mixed(merge, read[d], b[d]);
      reference.set(first + d, out.value, out.error);
      if (updates) reference.set(sums + first + d, b[d], 0);
    }
    if (p.lse == attnres::Option::kOn)
      reference.set(reference.begin(1) + static_cast<std::size_t>(t), merge.lse, merge.error);
  }
  return reference;
}

}  // namespace attn
