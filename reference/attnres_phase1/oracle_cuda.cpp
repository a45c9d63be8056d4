// Phase 1 in fp64 on the GPU.
#include "reference/attnres/mix.h"
#include "reference/attnres_phase1/contract.h"

namespace attn {

std::optional<AttnResPhase1::Reference> AttnResPhase1::oracle_on_device(const Problem& p,
                                                                        const Tensors& tensors) {
  return attnres::read_on_device(p, tensors.v, tensors.wt, tensor_specs(p));
}

}  // namespace attn
