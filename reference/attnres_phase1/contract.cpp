// Tensors, work and suites of phase 1.
#include "reference/attnres_phase1/contract.h"

#include "reference/attnres/suites.h"

namespace attn {

std::vector<TensorSpec> AttnResPhase1::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  attnres::append_planes(specs, attnres::source_plane(p), p);
  specs.push_back(attnres::queries(p, p.S));
  specs.push_back(attnres::dense("out", TensorRole::kOutput, p.out_type(), p.S, p, p.D));
  specs.push_back(attnres::dense("lse", TensorRole::kOutput, DType::kF32, p.S, p, 1));
  return specs;
}

AttnResPhase1::Tensors AttnResPhase1::bind(const Problem& p, std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  std::size_t next = 0;
  Tensors t;
  t.v = attnres::bind_planes(specs, storage, p, next);
  for (TensorView* view : {&t.wt, &t.out, &t.lse}) {
    *view = specs[next].bind(storage[next]);
    ++next;
  }
  return t;
}

Work AttnResPhase1::work(const Problem& p) {
  const auto pairs = static_cast<double>(p.N * p.S);
  const auto tokens = static_cast<double>(p.tokens());
  return {
      .mma_flops = tokens * static_cast<double>(p.D) * (4 * pairs + 2 * static_cast<double>(p.N)),
      .exponentials = tokens * pairs,
      .bytes = attnres::plane_bytes(p, p.N, p.dtype) + attnres::plane_bytes(p, p.S, p.out_type()) +
               attnres::scalar_bytes(p, p.S) + attnres::query_bytes(p, p.S)};
}

std::vector<Suite<AttnResPhase1::Problem>> AttnResPhase1::suites() {
  return attnres::read_suites<Problem>();
}

}  // namespace attn
