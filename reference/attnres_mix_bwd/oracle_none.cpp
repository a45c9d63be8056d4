// Stands in for the GPU oracle in a build without CUDA.
#include "reference/attnres_mix_bwd/contract.h"

namespace attn {

std::optional<AttnResMixBwd::Reference> AttnResMixBwd::oracle_on_device(const Problem&,
                                                                        const Tensors&) {
  return std::nullopt;
}

}  // namespace attn
