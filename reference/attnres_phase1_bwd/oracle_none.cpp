// Stands in for the GPU oracle in a build without CUDA.
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {

std::optional<AttnResPhase1Bwd::Reference> AttnResPhase1Bwd::oracle_on_device(const Problem&,
                                                                              const Tensors&) {
  return std::nullopt;
}

}  // namespace attn
