// Tensors, work and suites of the merge's backward.
#include "reference/attnres_merge_bwd/contract.h"

#include "reference/attnres/suites.h"

namespace attn {

using attnres::Option;
using attnres::Store;

std::vector<TensorSpec> AttnResMergeBwd::tensor_specs(const Problem& p) {
  using attnres::dense;
  const DType out = p.out_type();
  std::vector<TensorSpec> specs = {dense("partial", TensorRole::kKey, p.dtype, 1, p, p.D),
                                   attnres::queries(p, 1),
                                   dense("read", TensorRole::kKey, out, 1, p, p.D),
                                   dense("z", TensorRole::kQuery, DType::kF32, 1, p, 1),
                                   dense("dout", TensorRole::kQuery, out, 1, p, p.D)};
  if (p.dlse == Option::kOn)
    specs.push_back(dense("dlse", TensorRole::kQuery, DType::kF32, 1, p, 1));
  const TensorRole role = p.dpartial == Store::kAdd ? TensorRole::kInOut : TensorRole::kOutput;
  specs.push_back(dense("dpartial", role, p.grad_type(), 1, p, p.D));
  specs.push_back(dense("dread", TensorRole::kOutput, out, 1, p, p.D));
  specs.push_back(dense("dz", TensorRole::kOutput, DType::kF32, 1, p, 1));
  specs.push_back(attnres::query_gradient(p, 1, p.dwt));
  return specs;
}

AttnResMergeBwd::Tensors AttnResMergeBwd::bind(const Problem& p, std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Tensors t;
  std::vector<TensorView*> views = {&t.partial, &t.wt, &t.read, &t.z, &t.dout};
  if (p.dlse == Option::kOn) views.push_back(&t.dlse);
  for (TensorView* view : {&t.dpartial, &t.dread, &t.dz, &t.dwt}) views.push_back(view);
  for (std::size_t i = 0; i < views.size(); ++i) *views[i] = specs[i].bind(storage[i]);
  return t;
}

Work AttnResMergeBwd::work(const Problem& p) {
  const auto tokens = static_cast<double>(p.tokens());
  return {.mma_flops = tokens * static_cast<double>(p.D) * 16,
          .exponentials = tokens,
          .bytes = attnres::plane_bytes(p, 1, p.dtype) + attnres::plane_bytes(p, 3, p.out_type()) +
                   attnres::plane_bytes(p, p.dpartial == Store::kAdd ? 2 : 1, p.grad_type()) +
                   attnres::scalar_bytes(p, p.dlse == Option::kOn ? 3 : 2) +
                   attnres::query_bytes(p, 1) + attnres::query_gradient_bytes(p, 1, p.dwt)};
}

std::vector<Suite<AttnResMergeBwd::Problem>> AttnResMergeBwd::suites() {
  std::vector<Suite<Problem>> suites = attnres::merge_suites<Problem>();
  auto& edge = suites.back().cases;
  for (std::size_t i = 0; i < edge.size(); ++i) {
    Problem& p = edge[i].problem;
    if (i % 2 == 1) p.dlse = Option::kOn;
    if (i % 3 == 1) p.dpartial = Store::kAdd;
    if (i % 4 == 1) p.dwt = Store::kAdd;
    if (i % 5 == 4) p.grad_dtype = attnres::TypeChoice::kF32;
  }
  for (auto& one : suites.front().cases) one.problem.dpartial = Store::kAdd;  // as a network does
  return suites;
}

}  // namespace attn
