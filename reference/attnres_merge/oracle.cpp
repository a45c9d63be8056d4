// The merge in fp64, token by token.
#include "reference/attnres/merge.h"
#include "reference/attnres/mix.h"
#include "reference/attnres_merge/contract.h"

namespace attn {
namespace {

using attnres::Row;
using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;

void merge_token(const Problem& p,
                 const Tensors& tensors,
                 const Row& query,
                 const Row& gamma,
                 std::int64_t t,
                 attnres::Reference& reference) {
  const auto row = [&](const TensorView& view) {
    return attnres::load_row(view, 0, t / p.T, t % p.T);
  };
  const bool updates = p.update == attnres::Option::kOn;
  const Row b = updates ? attnres::rounded_sum(row(tensors.partial), row(tensors.update), p.dtype)
                        : row(tensors.partial);
  const double z = load_element(tensors.z.data, DType::kF32, t);
  const attnres::Merge merge = attnres::merge(query, b, z, p.eps);
  const attnres::BoundedRow out = attnres::mixed(merge, row(tensors.read), b);
  attnres::TokenOutputs outputs(reference, t);
  if (p.has_out()) outputs.row(out.value, out.error);
  if (p.has_norm()) {
    const attnres::BoundedRow normed =
        attnres::output_norm(attnres::store_row(out, p.out_type()), gamma, p.norm_eps);
    outputs.row(normed.value, normed.error);
  }
  if (p.lse == attnres::Option::kOn) outputs.row({merge.lse}, {merge.error});
  if (updates) outputs.row(b, Row(b.size(), 0.0));
}

}  // namespace

attnres::Reference AttnResMerge::oracle(const Problem& p, const Tensors& tensors) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Reference reference(specs, specs.size());
  const Row query = attnres::load_row(tensors.wt, 0, 0, 0);
  const Row gamma = p.has_norm() ? attnres::load_row(tensors.gamma, 0, 0, 0) : Row{};
#pragma omp parallel for
  for (std::int64_t t = 0; t < p.tokens(); ++t) merge_token(p, tensors, query, gamma, t, reference);
  return reference;
}

}  // namespace attn
