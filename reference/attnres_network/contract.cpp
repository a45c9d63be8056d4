// Tensors and suites of a network.
#include "reference/attnres_network/contract.h"

namespace attn {

std::vector<TensorSpec> AttnResNetwork::tensor_specs(const Problem& p) {
  using attnres::dense;
  return {dense("embedding", TensorRole::kKey, p.dtype, 1, p, p.D), attnres::queries(p, p.L + 1),
          dense("blocks", TensorRole::kOutput, p.dtype, p.blocks(), p, p.D),
          dense("out", TensorRole::kOutput, p.dtype, 1, p, p.D)};
}

AttnResNetwork::Tensors AttnResNetwork::bind(const Problem& p, std::span<void* const> storage) {
  const std::vector<TensorSpec> specs = tensor_specs(p);
  return {.embedding = specs[0].bind(storage[0]),
          .wt = specs[1].bind(storage[1]),
          .blocks = specs[2].bind(storage[2]),
          .out = specs[3].bind(storage[3])};
}

std::vector<Suite<AttnResNetwork::Problem>> AttnResNetwork::suites() {
  std::vector<Suite<Problem>> suites;
  for (const auto& from : attnres::network_suites()) {
    suites.push_back({from.name, from.summary, {}});
    for (const auto& one : from.cases)
      suites.back().cases.push_back({Problem{one.problem}, one.family});
  }
  return suites;
}

}  // namespace attn
