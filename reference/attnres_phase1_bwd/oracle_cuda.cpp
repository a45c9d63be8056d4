// The backward of phase 1 in fp64 on the GPU.
#include "reference/attnres/read_backward.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {

std::optional<AttnResPhase1Bwd::Reference> AttnResPhase1Bwd::oracle_on_device(
    const Problem& p, const Tensors& tensors) {
  return attnres::read_backward_on_device(p, tensors, tensors.dout, tensor_specs(p));
}

}  // namespace attn
