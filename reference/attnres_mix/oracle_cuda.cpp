// The plain mix in fp64 on the GPU: a read by one query.
#include "reference/attnres/mix.h"
#include "reference/attnres_mix/contract.h"

namespace attn {

std::optional<AttnResMix::Reference> AttnResMix::oracle_on_device(const Problem& p,
                                                                  const Tensors& tensors) {
  using attnres::Option;
  if (p.update == Option::kOn || p.weights == Option::kOn || p.has_norm()) return std::nullopt;
  return attnres::read_on_device(attnres::one_query(p), tensors.v, tensors.wt, tensor_specs(p));
}

}  // namespace attn
