// The merge in fp64, token by token.
#include "reference/attnres/merge.h"
#include "reference/attnres_merge/contract.h"

namespace attn {
namespace {

using attnres::Row;

/// b + update, rounded to b's type as every backend rounds it.
Row updated(const AttnResMerge::Problem& p, const AttnResMerge::Tensors& tensors, std::int64_t t) {
  Row sum(static_cast<std::size_t>(p.D));
  for (std::int64_t d = 0; d < p.D; ++d) {
    const std::int64_t at = t * p.D + d;
    const float exact = load_element(tensors.partial.data, p.dtype, at) +
                        load_element(tensors.update.data, p.dtype, at);
    float stored = 0;
    store_element(&stored, p.dtype, 0, exact);
    sum[static_cast<std::size_t>(d)] = load_element(&stored, p.dtype, 0);
  }
  return sum;
}

}  // namespace

attnres::Reference AttnResMerge::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, specs.size());
  const Row query = attnres::load_row(tensors.wt, 0, 0, 0);
  const bool updates = p.update == attnres::Option::kOn;
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) {
    const Row b =
        updates ? updated(p, tensors, t) : attnres::load_row(tensors.partial, 0, t / p.T, t % p.T);
    const Row read = attnres::load_row(tensors.read, 0, t / p.T, t % p.T);
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
