// Tensors, work and suites of phase 1's backward.
#include "reference/attnres_phase1_bwd/contract.h"

#include "reference/attnres/suites.h"

namespace attn {

Support AttnResPhase1Bwd::validate(const Problem& p) {
  if (Support read = attnres::validate_read(p); !read) return read;
  return attnres::validate_gradients(p);
}

std::vector<TensorSpec> AttnResPhase1Bwd::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  attnres::append_planes(specs, attnres::source_plane(p), p);
  specs.push_back(attnres::queries(p, p.S));
  specs.push_back(attnres::dense("dout", TensorRole::kQuery, p.out_type(), p.S, p, p.D));
  if (p.dlse == attnres::Option::kOn)
    specs.push_back(attnres::dense("dlse", TensorRole::kQuery, DType::kF32, p.S, p, 1));
  attnres::append_gradients(specs, p);
  specs.push_back(attnres::query_gradient(p, p.S, p.dwt));
  return specs;
}

AttnResPhase1Bwd::Tensors AttnResPhase1Bwd::bind(const Problem& p, std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  std::size_t next = 0;
  const auto view = [&] {
    const TensorView bound = specs[next].bind(storage[next]);
    ++next;
    return bound;
  };
  Tensors t;
  t.v = attnres::bind_planes(specs, storage, p, next);
  t.wt = view();
  t.dout = view();
  if (p.dlse == attnres::Option::kOn) t.dlse = view();
  t.dv = attnres::bind_planes(specs, storage, p, next);
  t.dwt = view();
  return t;
}

Work AttnResPhase1Bwd::work(const Problem& p) {
  const auto pairs = static_cast<double>(p.N * p.S);
  const auto tokens = static_cast<double>(p.tokens());
  const auto added = static_cast<std::int64_t>(p.add_to.size());
  return {
      .mma_flops = tokens * static_cast<double>(p.D) * (10 * pairs + 6 * static_cast<double>(p.N)),
      .exponentials = tokens * pairs,
      .bytes = attnres::plane_bytes(p, p.N, p.dtype) + attnres::plane_bytes(p, p.S, p.out_type()) +
               attnres::plane_bytes(p, p.N + added, p.grad_type()) +
               attnres::scalar_bytes(p, p.dlse == attnres::Option::kOn ? p.S : 0) +
               attnres::query_bytes(p, p.S) + attnres::query_gradient_bytes(p, p.S, p.dwt)};
}

std::vector<Suite<AttnResPhase1Bwd::Problem>> AttnResPhase1Bwd::suites() {
  std::vector<Suite<Problem>> suites = attnres::read_suites<Problem>();
  auto& edge = suites.back().cases;
  for (std::size_t i = 0; i < edge.size(); ++i) attnres::vary_gradients(edge[i].problem, i);
  attnres::append_added_gradients(suites.front().cases);
  return suites;
}

}  // namespace attn
