// Tensors, work and suites of the mix's backward.
#include "reference/attnres_mix_bwd/contract.h"

#include "reference/attnres/suites.h"

namespace attn {
namespace {

using attnres::Option;
using attnres::OutputNorm;
using Problem = AttnResMixBwd::Problem;
using Tensors = AttnResMixBwd::Tensors;

/// The dense inputs behind the sources, in order, and where bind puts them.
std::vector<attnres::BoundSpec> inputs(const Problem& p, Tensors& t) {
  using attnres::dense;
  std::vector<attnres::BoundSpec> tensors = {{attnres::queries(p, 1), &t.wt}};
  if (p.has_norm()) tensors.push_back({attnres::norm_weight(p), &t.gamma});
  if (p.has_out())
    tensors.push_back({dense("dout", TensorRole::kQuery, p.out_type(), 1, p, p.D), &t.dout});
  if (p.has_norm())
    tensors.push_back({dense("dnormed", TensorRole::kQuery, p.out_type(), 1, p, p.D), &t.dnormed});
  if (p.dlse == Option::kOn)
    tensors.push_back({dense("dlse", TensorRole::kQuery, DType::kF32, 1, p, 1), &t.dlse});
  return tensors;
}

/// Those behind the sources' gradients.
std::vector<attnres::BoundSpec> weight_gradients(const Problem& p, Tensors& t) {
  std::vector<attnres::BoundSpec> tensors = {{attnres::query_gradient(p, 1, p.dwt), &t.dwt}};
  if (p.has_norm()) tensors.push_back({attnres::norm_weight_gradient(p, p.dgamma), &t.dgamma});
  return tensors;
}

}  // namespace

Support AttnResMixBwd::validate(const Problem& p) {
  if (Support sources = attnres::validate_sources(p); !sources) return sources;
  if (Support gradients = attnres::validate_gradients(p); !gradients) return gradients;
  return attnres::validate_norm(p);
}

std::vector<TensorSpec> AttnResMixBwd::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  Tensors unbound;
  attnres::append_planes(specs, attnres::source_plane(p), p);
  attnres::append_specs(specs, inputs(p, unbound));
  attnres::append_gradients(specs, p);
  attnres::append_specs(specs, weight_gradients(p, unbound));
  return specs;
}

Tensors AttnResMixBwd::bind(const Problem& p, std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  Tensors t;
  std::size_t next = 0;
  t.v = attnres::bind_planes(specs, storage, p, next);
  attnres::bind_specs(inputs(p, t), storage, next);
  t.dv = attnres::bind_planes(specs, storage, p, next);
  attnres::bind_specs(weight_gradients(p, t), storage, next);
  return t;
}

Work AttnResMixBwd::work(const Problem& p) {
  const auto tokens = static_cast<double>(p.tokens());
  const auto N = static_cast<double>(p.N);
  const auto added = static_cast<std::int64_t>(p.add_to.size());
  // A column: the read's, and with a norm the output again, its products with the sources, and itself.
  const double flops = 16 * N + (p.has_norm() ? 4 * N + 12 : 0);
  return {.mma_flops = tokens * static_cast<double>(p.D) * flops,
          .exponentials = tokens * N,
          .bytes = attnres::plane_bytes(p, p.N, p.dtype) +
                   attnres::plane_bytes(p, p.rows(), p.out_type()) +
                   attnres::plane_bytes(p, p.N + added, p.grad_type()) +
                   attnres::scalar_bytes(p, p.dlse == Option::kOn ? 1 : 0) +
                   attnres::query_bytes(p, p.has_norm() ? 2 : 1) +
                   attnres::query_gradient_bytes(p, 1, p.dwt) +
                   (p.has_norm() ? attnres::query_gradient_bytes(p, 1, p.dgamma) : 0)};
}

std::vector<Suite<Problem>> AttnResMixBwd::suites() {
  std::vector<Suite<Problem>> suites = attnres::source_suites<Problem>();
  auto& edge = suites.back().cases;
  for (std::size_t i = 0; i < edge.size(); ++i) attnres::vary_gradients(edge[i].problem, i);
  attnres::append_norms(edge);
  attnres::add_weight_gradients(edge);
  const auto add_to_all = [](Problem& p) {
    for (std::int64_t n = 0; n < p.N; ++n) p.add_to.push_back(n);
  };
  attnres::append_headline(suites.front().cases, add_to_all);  // as a network does
  attnres::append_headline(suites.front().cases, [&](Problem& p) {
    add_to_all(p);
    p.norm = OutputNorm::kInstead;
  });
  return suites;
}

}  // namespace attn
