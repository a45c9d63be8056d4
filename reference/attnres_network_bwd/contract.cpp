// Tensors and suites of a network's backward.
#include "reference/attnres_network_bwd/contract.h"

namespace attn {

std::vector<TensorSpec> AttnResNetworkBwd::tensor_specs(const Problem& p) {
  using attnres::dense;
  return {dense("blocks", TensorRole::kKey, p.dtype, 1 + p.blocks(), p, p.D),
          attnres::queries(p, p.L + 1),
          dense("dout", TensorRole::kQuery, p.dtype, 1, p, p.D),
          dense("dembedding", TensorRole::kOutput, p.dtype, 1, p, p.D),
          attnres::query_gradient(p, p.L + 1, attnres::Store::kWrite)};
}

AttnResNetworkBwd::Tensors AttnResNetworkBwd::bind(const Problem& p,
                                                   std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  return {.blocks = specs[0].bind(storage[0]),
          .wt = specs[1].bind(storage[1]),
          .dout = specs[2].bind(storage[2]),
          .dembedding = specs[3].bind(storage[3]),
          .dwt = specs[4].bind(storage[4])};
}

std::vector<Suite<AttnResNetworkBwd::Problem>> AttnResNetworkBwd::suites() {
  std::vector<Suite<Problem>> suites;
  for (const auto& from : attnres::network_suites()) {
    suites.push_back({from.name, from.summary, {}});
    for (const auto& one : from.cases)
      suites.back().cases.push_back({Problem{one.problem}, one.family});
  }
  return suites;
}

}  // namespace attn
