// Stands in for the GPU oracle in a build without CUDA.
#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn {

std::optional<AttnResMergePairBwd::Reference> AttnResMergePairBwd::oracle_on_device(
    const Problem&, const Tensors&) {
  return std::nullopt;
}

}  // namespace attn
