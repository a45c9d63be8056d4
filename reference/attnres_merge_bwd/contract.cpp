// Tensors, work and suites of the merge's backward.
#include "reference/attnres_merge_bwd/contract.h"

#include "reference/attnres/suites.h"

namespace attn {

namespace {

using attnres::Option;
using attnres::Store;
using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;

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
  const TensorRole role = p.dpartial == Store::kAdd ? TensorRole::kInOut : TensorRole::kOutput;
  add(p.has_norm(), attnres::norm_weight(p), t.gamma);
  add(p.has_out(), dense("dout", TensorRole::kQuery, out, 1, p, p.D), t.dout);
  add(p.has_norm(), dense("dnormed", TensorRole::kQuery, out, 1, p, p.D), t.dnormed);
  add(p.dlse == Option::kOn, dense("dlse", TensorRole::kQuery, DType::kF32, 1, p, 1), t.dlse);
  add(true, dense("dpartial", role, p.grad_type(), 1, p, p.D), t.dpartial);
  add(true, dense("dread", TensorRole::kOutput, out, 1, p, p.D), t.dread);
  add(true, dense("dz", TensorRole::kOutput, DType::kF32, 1, p, 1), t.dz);
  add(true, attnres::query_gradient(p, 1, p.dwt), t.dwt);
  add(p.has_norm(), attnres::norm_weight_gradient(p, p.dgamma), t.dgamma);
  return tensors;
}

}  // namespace

Support AttnResMergeBwd::validate(const Problem& p) {
  if (Support tokens = attnres::validate_tokens(p); !tokens) return tokens;
  return attnres::validate_norm(p);
}

std::vector<TensorSpec> AttnResMergeBwd::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  Tensors unbound;
  attnres::append_specs(specs, tensors_of(p, unbound));
  return specs;
}

Tensors AttnResMergeBwd::bind(const Problem& p, std::span<void* const> storage) {
  Tensors t;
  std::size_t next = 0;
  attnres::bind_specs(tensors_of(p, t), storage, next);
  return t;
}

Work AttnResMergeBwd::work(const Problem& p) {
  const auto tokens = static_cast<double>(p.tokens());
  // A column: the merge's, and with a norm the output again and itself.
  const double flops = 16 + (p.has_norm() ? 15 : 0);
  return {.mma_flops = tokens * static_cast<double>(p.D) * flops,
          .exponentials = tokens,
          .bytes = attnres::plane_bytes(p, 1, p.dtype) +
                   attnres::plane_bytes(p, 2 + p.rows(), p.out_type()) +
                   attnres::plane_bytes(p, p.dpartial == Store::kAdd ? 2 : 1, p.grad_type()) +
                   attnres::scalar_bytes(p, p.dlse == Option::kOn ? 3 : 2) +
                   attnres::query_bytes(p, p.has_norm() ? 2 : 1) +
                   attnres::query_gradient_bytes(p, 1, p.dwt) +
                   (p.has_norm() ? attnres::query_gradient_bytes(p, 1, p.dgamma) : 0)};
}

std::vector<Suite<Problem>> AttnResMergeBwd::suites() {
  std::vector<Suite<Problem>> suites = attnres::merge_suites<Problem>();
  auto& edge = suites.back().cases;
  for (std::size_t i = 0; i < edge.size(); ++i) {
    Problem& p = edge[i].problem;
    if (i % 2 == 1) p.dlse = Option::kOn;
    if (i % 3 == 1) p.dpartial = Store::kAdd;
    if (i % 4 == 1) p.dwt = Store::kAdd;
    if (i % 5 == 4) p.grad_dtype = attnres::TypeChoice::kF32;
  }
  attnres::append_norms(edge);
  attnres::add_weight_gradients(edge);
  for (auto& one : suites.front().cases) one.problem.dpartial = Store::kAdd;  // as a network does
  return suites;
}

}  // namespace attn
