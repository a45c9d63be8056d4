// Stands in for the GPU oracle in a build without CUDA.
#include <stdexcept>

#include "reference/colreduce/contract.h"

namespace attn {

std::optional<ColReduce::Reference> ColReduce::oracle_on_device(const Problem&, const Tensors&) {
  return std::nullopt;
}

void ColReduce::write_given_on_device(const Problem&, const Tensors&) {
  throw std::logic_error("this build has no CUDA");
}

}  // namespace attn
