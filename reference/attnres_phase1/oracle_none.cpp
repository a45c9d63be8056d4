// Stands in for the GPU oracle in a build without CUDA.
#include "reference/attnres_phase1/contract.h"

namespace attn {

std::optional<AttnResPhase1::Reference> AttnResPhase1::oracle_on_device(const Problem&,
                                                                        const Tensors&) {
  return std::nullopt;
}

}  // namespace attn
