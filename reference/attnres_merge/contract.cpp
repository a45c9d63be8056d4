// Tensors, work and suites of the merge.
#include "reference/attnres_merge/contract.h"

#include "reference/attnres/suites.h"

namespace attn {

using attnres::Option;

std::vector<TensorSpec> AttnResMerge::tensor_specs(const Problem& p) {
  using attnres::dense;
  const DType out = p.out_type();
  std::vector<TensorSpec> specs = {dense("partial", TensorRole::kKey, p.dtype, 1, p, p.D),
                                   attnres::queries(p, 1),
                                   dense("read", TensorRole::kKey, out, 1, p, p.D),
                                   dense("z", TensorRole::kQuery, DType::kF32, 1, p, 1)};
  if (p.update == Option::kOn)
    specs.push_back(dense("update", TensorRole::kKey, p.dtype, 1, p, p.D));
  specs.push_back(dense("out", TensorRole::kOutput, out, 1, p, p.D));
  if (p.lse == Option::kOn)
    specs.push_back(dense("lse", TensorRole::kOutput, DType::kF32, 1, p, 1));
  if (p.update == Option::kOn)
    specs.push_back(dense("sum", TensorRole::kOutput, p.dtype, 1, p, p.D));
  return specs;
}

AttnResMerge::Tensors AttnResMerge::bind(const Problem& p, std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Tensors t;
  std::vector<TensorView*> views = {&t.partial, &t.wt, &t.read, &t.z};
  if (p.update == Option::kOn) views.push_back(&t.update);
  views.push_back(&t.out);
  if (p.lse == Option::kOn) views.push_back(&t.lse);
  if (p.update == Option::kOn) views.push_back(&t.sum);
  for (std::size_t i = 0; i < views.size(); ++i) *views[i] = specs[i].bind(storage[i]);
  return t;
}

Work AttnResMerge::work(const Problem& p) {
  const bool updates = p.update == Option::kOn;
  const auto tokens = static_cast<double>(p.tokens());
  return {.mma_flops = tokens * static_cast<double>(p.D) * (updates ? 8 : 7),
          .exponentials = tokens,
          .bytes = attnres::plane_bytes(p, updates ? 3 : 1, p.dtype) +
                   attnres::plane_bytes(p, 2, p.out_type()) +
                   attnres::scalar_bytes(p, p.lse == Option::kOn ? 2 : 1) +
                   attnres::query_bytes(p, 1)};
}

std::vector<Suite<AttnResMerge::Problem>> AttnResMerge::suites() {
  std::vector<Suite<Problem>> suites = attnres::merge_suites<Problem>();
  auto& edge = suites.back().cases;
  for (std::size_t i = 0; i < edge.size(); ++i) {
    if (i % 2 == 1) edge[i].problem.update = Option::kOn;
    if (i % 3 == 1) edge[i].problem.lse = Option::kOn;
  }
  auto updated = suites.front().cases.front();  // the headline with its add
  updated.problem.update = Option::kOn;
  suites.front().cases.push_back(updated);
  return suites;
}

}  // namespace attn
