// Stands in for the GPU oracle in a build without CUDA.
#include "reference/attnres_merge_pair/contract.h"

namespace attn {

std::optional<AttnResMergePair::Reference> AttnResMergePair::oracle_on_device(const Problem&,
                                                                              const Tensors&) {
  return std::nullopt;
}

}  // namespace attn
