// Tensors of a network.
#include "reference/attnres_network/contract.h"

namespace attn {
namespace {

std::vector<attnres::BoundSpec> all_tensors(const AttnResNetwork::Problem& p,
                                            AttnResNetwork::Tensors& t) {
  using attnres::dense;
  const auto planes = [&p](std::string_view name, TensorRole role, std::int64_t count) {
    return dense(name, role, p.dtype, count, p, p.D);
  };
  return {{planes("embedding", TensorRole::kKey, 1), &t.embedding},
          {planes("updates", TensorRole::kKey, p.plane_count()), &t.updates},
          {attnres::queries(p, p.L + 1), &t.wt},
          {planes("reads", TensorRole::kOutput, p.plane_count()), &t.reads},
          {planes("blocks", TensorRole::kOutput, p.blocks()), &t.blocks},
          {planes("out", TensorRole::kOutput, 1), &t.out}};
}

}  // namespace

std::vector<TensorSpec> AttnResNetwork::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  Tensors unbound;
  attnres::append_specs(specs, all_tensors(p, unbound));
  return specs;
}

AttnResNetwork::Tensors AttnResNetwork::bind(const Problem& p, std::span<void* const> storage) {
  Tensors t;
  std::size_t next = 0;
  attnres::bind_specs(all_tensors(p, t), storage, next);
  return t;
}

}  // namespace attn
