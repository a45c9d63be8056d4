// Tensors, work and suites of the mix.
#include "reference/attnres_mix/contract.h"

#include "reference/attnres/suites.h"

namespace attn {
namespace {

using attnres::Option;
using attnres::OutputNorm;
using Problem = AttnResMix::Problem;

/// The tensors behind the sources, in order, and where bind puts them.
std::vector<attnres::BoundSpec> dense_tensors(const Problem& p, AttnResMix::Tensors& t) {
  using attnres::dense;
  const DType out = p.out_type();
  std::vector<attnres::BoundSpec> tensors = {{attnres::queries(p, 1), &t.wt}};
  const auto add = [&](bool wanted, const TensorSpec& spec, TensorView& view) {
    if (wanted) tensors.push_back({spec, &view});
  };
  const bool updates = p.update == Option::kOn;
  add(updates, dense("update", TensorRole::kKey, p.dtype, 1, p, p.D), t.update);
  add(p.has_norm(), attnres::norm_weight(p), t.gamma);
  add(p.has_out(), dense("out", TensorRole::kOutput, out, 1, p, p.D), t.out);
  add(p.has_norm(), dense("normed", TensorRole::kOutput, out, 1, p, p.D), t.normed);
  add(p.lse == Option::kOn, dense("lse", TensorRole::kOutput, DType::kF32, 1, p, 1), t.lse);
  add(p.weights == Option::kOn, dense("weights", TensorRole::kOutput, DType::kF32, 1, p, p.N),
      t.weights);
  add(updates, dense("sum", TensorRole::kOutput, p.dtype, 1, p, p.D), t.sum);
  return tensors;
}

}  // namespace

Support AttnResMix::validate(const Problem& p) {
  if (Support sources = attnres::validate_sources(p); !sources) return sources;
  return attnres::validate_norm(p);
}

std::vector<TensorSpec> AttnResMix::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  attnres::append_planes(specs, attnres::source_plane(p), p);
  Tensors unbound;
  attnres::append_specs(specs, dense_tensors(p, unbound));
  return specs;
}

AttnResMix::Tensors AttnResMix::bind(const Problem& p, std::span<void* const> storage) {
  Tensors t;
  std::size_t next = 0;
  t.v = attnres::bind_planes(tensor_specs(p), storage, p, next);
  attnres::bind_specs(dense_tensors(p, t), storage, next);
  return t;
}

Work AttnResMix::work(const Problem& p) {
  const bool updates = p.update == Option::kOn;
  const auto tokens = static_cast<double>(p.tokens());
  const std::int64_t scalars =
      (p.lse == Option::kOn ? 1 : 0) + (p.weights == Option::kOn ? p.N : 0);
  const double flops =
      6 * static_cast<double>(p.N) + (updates ? 1 : 0) + (p.has_norm() ? 4 : 0);  // a column
  return {.mma_flops = tokens * static_cast<double>(p.D) * flops,
          .exponentials = tokens * static_cast<double>(p.N),
          .bytes = attnres::plane_bytes(p, p.N + (updates ? 2 : 0), p.dtype) +
                   attnres::plane_bytes(p, p.rows(), p.out_type()) +
                   attnres::scalar_bytes(p, scalars) +
                   attnres::query_bytes(p, p.has_norm() ? 2 : 1)};
}

std::vector<Suite<Problem>> AttnResMix::suites() {
  std::vector<Suite<Problem>> suites = attnres::source_suites<Problem>();
  auto& edge = suites.back().cases;
  for (std::size_t i = 0; i < edge.size(); ++i) {
    Problem& p = edge[i].problem;
    if (i % 2 == 0) p.lse = Option::kOn;
  }
  attnres::append_norms(edge);
  for (std::size_t i = 0; i < edge.size(); ++i) {
    Problem& p = edge[i].problem;
    if (!p.has_norm() && i % 3 != 1) continue;  // the others are phase 1's problems
    if (i % 3 < 2) p.update = Option::kOn;
    if (i % 5 < 2) p.weights = Option::kOn;
  }
  attnres::append_headline(suites.front().cases, [](Problem& p) { p.update = Option::kOn; });
  attnres::append_headline(suites.front().cases, [](Problem& p) {
    p.update = Option::kOn;
    p.norm = OutputNorm::kInstead;
  });
  return suites;
}

}  // namespace attn
