// Tensors, work and suites of the merge.
#include "reference/attnres_merge/contract.h"

#include "reference/attnres/suites.h"

namespace attn {

namespace {

using attnres::Option;
using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;

/// All tensors, in order, and where bind puts them.
std::vector<attnres::BoundSpec> tensors_of(const Problem& p, Tensors& t) {
  using attnres::dense;
  const DType out = p.out_type();
  std::vector<attnres::BoundSpec> tensors = {
      {dense("partial", TensorRole::kKey, p.dtype, 1, p, p.D), &t.partial},
      {attnres::queries(p, 1), &t.wt},
      {dense("read", TensorRole::kKey, out, 1, p, p.D), &t.read},
      {dense("z", TensorRole::kQuery, DType::kF32, 1, p, 1), &t.z}};
  const auto add = [&](bool wanted, const TensorSpec& spec, TensorView& view) {
    if (wanted) tensors.push_back({spec, &view});
  };
  const bool updates = p.update == Option::kOn;
  add(updates, dense("update", TensorRole::kKey, p.dtype, 1, p, p.D), t.update);
  add(p.has_norm(), attnres::norm_weight(p), t.gamma);
  add(p.has_out(), dense("out", TensorRole::kOutput, out, 1, p, p.D), t.out);
  add(p.has_norm(), dense("normed", TensorRole::kOutput, out, 1, p, p.D), t.normed);
  add(p.lse == Option::kOn, dense("lse", TensorRole::kOutput, DType::kF32, 1, p, 1), t.lse);
  add(updates, dense("sum", TensorRole::kOutput, p.dtype, 1, p, p.D), t.sum);
  return tensors;
}

}  // namespace

Support AttnResMerge::validate(const Problem& p) {
  if (Support tokens = attnres::validate_tokens(p); !tokens) return tokens;
  return attnres::validate_norm(p);
}

std::vector<TensorSpec> AttnResMerge::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  Tensors unbound;
  attnres::append_specs(specs, tensors_of(p, unbound));
  return specs;
}

Tensors AttnResMerge::bind(const Problem& p, std::span<void* const> storage) {
  Tensors t;
  std::size_t next = 0;
  attnres::bind_specs(tensors_of(p, t), storage, next);
  return t;
}

Work AttnResMerge::work(const Problem& p) {
  const bool updates = p.update == Option::kOn;
  const auto tokens = static_cast<double>(p.tokens());
  const double flops = 7 + (updates ? 1 : 0) + (p.has_norm() ? 4 : 0);  // a column
  return {.mma_flops = tokens * static_cast<double>(p.D) * flops,
          .exponentials = tokens,
          .bytes = attnres::plane_bytes(p, updates ? 3 : 1, p.dtype) +
                   attnres::plane_bytes(p, 1 + p.rows(), p.out_type()) +
                   attnres::scalar_bytes(p, p.lse == Option::kOn ? 2 : 1) +
                   attnres::query_bytes(p, p.has_norm() ? 2 : 1)};
}

std::vector<Suite<Problem>> AttnResMerge::suites() {
  std::vector<Suite<Problem>> suites = attnres::merge_suites<Problem>();
  auto& edge = suites.back().cases;
  for (std::size_t i = 0; i < edge.size(); ++i) {
    if (i % 2 == 1) edge[i].problem.update = Option::kOn;
    if (i % 3 == 1) edge[i].problem.lse = Option::kOn;
  }
  attnres::append_norms(edge);
  auto updated = suites.front().cases.front();  // the headline with its add
  updated.problem.update = Option::kOn;
  suites.front().cases.push_back(updated);
  return suites;
}

}  // namespace attn
