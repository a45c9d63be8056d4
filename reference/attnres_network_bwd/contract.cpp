// Tensors of a network's backward.
#include "reference/attnres_network_bwd/contract.h"

namespace attn {
namespace {

std::vector<attnres::BoundSpec> all_tensors(const AttnResNetworkBwd::Problem& p,
                                            AttnResNetworkBwd::Tensors& t) {
  using attnres::dense;
  const auto planes = [&p](std::string_view name, TensorRole role, std::int64_t count) {
    return dense(name, role, p.dtype, count, p, p.D);
  };
  return {{planes("blocks", TensorRole::kKey, 1 + p.blocks()), &t.blocks},
          {planes("updates", TensorRole::kKey, p.plane_count()), &t.updates},
          {attnres::queries(p, p.L + 1), &t.wt},
          {planes("dout", TensorRole::kQuery, 1), &t.dout},
          {planes("dreads", TensorRole::kQuery, p.plane_count()), &t.dreads},
          {planes("dblocks", TensorRole::kOutput, 1 + p.blocks()), &t.dblocks},
          {attnres::query_gradient(p, p.L + 1, attnres::Store::kWrite), &t.dwt}};
}

}  // namespace

std::vector<TensorSpec> AttnResNetworkBwd::tensor_specs(const Problem& p) {
  std::vector<TensorSpec> specs;
  Tensors unbound;
  attnres::append_specs(specs, all_tensors(p, unbound));
  return specs;
}

AttnResNetworkBwd::Tensors AttnResNetworkBwd::bind(const Problem& p,
                                                   std::span<void* const> storage) {
  Tensors t;
  std::size_t next = 0;
  attnres::bind_specs(all_tensors(p, t), storage, next);
  return t;
}

}  // namespace attn
