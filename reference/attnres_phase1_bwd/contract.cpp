// Tensors, work and suites of phase 1's backward.
#include "reference/attnres_phase1_bwd/contract.h"

#include <algorithm>

#include "reference/attnres/suites.h"

namespace attn {

bool AttnResPhase1Bwd::Problem::adds_to(std::int64_t n) const {
  return std::find(add_to.begin(), add_to.end(), n) != add_to.end();
}

Support AttnResPhase1Bwd::validate(const Problem& p) {
  if (Support read = attnres::validate_read(p); !read) return read;
  for (const std::int64_t n : p.add_to) {
    if (n < 0 || n >= p.N) return Support::no("add_to must name sources between 0 and N - 1");
  }
  if (p.sources == attnres::Sources::kStacked && !p.add_to.empty() &&
      static_cast<std::int64_t>(p.add_to.size()) != p.N)
    return Support::no("add_to must name all stacked sources or none");
  return Support::yes();
}

std::vector<TensorSpec> AttnResPhase1Bwd::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  attnres::append_planes(specs, attnres::source_plane(p), p);
  specs.push_back(attnres::queries(p, p.S));
  specs.push_back(attnres::dense("dout", TensorRole::kQuery, p.out_type(), p.S, p, p.D));
  if (p.dlse == attnres::Option::kOn)
    specs.push_back(attnres::dense("dlse", TensorRole::kQuery, DType::kF32, p.S, p, 1));
  const std::size_t first = specs.size();
  attnres::append_planes(specs, attnres::dense("dv", TensorRole::kOutput, p.grad_type(), 1, p, p.D),
                         p);
  for (std::size_t i = first; i < specs.size(); ++i) {
    if (p.adds_to(std::max<std::int64_t>(specs[i].plane, 0))) specs[i].role = TensorRole::kInOut;
  }
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
  const std::size_t reads = edge.size();
  for (std::size_t i = 0; i < reads; ++i) {
    Problem& p = edge[i].problem;
    if (i % 2 == 0) p.dlse = attnres::Option::kOn;
    if (i % 3 == 0) p.dwt = attnres::Store::kAdd;
    const std::int64_t step = p.sources == attnres::Sources::kStacked ? 1 : 2;
    for (std::int64_t n = 0; i % 3 == 1 && n < p.N; n += step) p.add_to.push_back(n);
    if (i % 5 == 4) p.grad_dtype = attnres::TypeChoice::kF32;
  }
  for (std::size_t i = 0, timed = suites.front().cases.size(); i < timed; ++i) {
    auto added =
        suites.front().cases[i];  // what a network's backward does to all blocks but new ones
    for (std::int64_t n = 0; n < added.problem.N; ++n) added.problem.add_to.push_back(n);
    suites.front().cases.push_back(added);
  }
  return suites;
}

}  // namespace attn
