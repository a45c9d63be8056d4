// The backward of the mix without a norm in fp64 on the GPU: that of a read by one query.
#include "reference/attnres/read_backward.h"
#include "reference/attnres_mix_bwd/contract.h"

namespace attn {

std::optional<AttnResMixBwd::Reference> AttnResMixBwd::oracle_on_device(const Problem& p,
                                                                        const Tensors& tensors) {
  if (p.has_norm()) return std::nullopt;
  return attnres::read_backward_on_device(attnres::one_query(p), tensors, tensors.dout,
                                          tensor_specs(p));
}

}  // namespace attn
