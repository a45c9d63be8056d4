// The backward of phase 1 in fp64.
#include "reference/attnres/read_backward.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {

attnres::Reference AttnResPhase1Bwd::oracle(const Problem& p, const Tensors& tensors) {
  Reference reference(tensor_specs(p), 0);
  const auto dout = [&](std::int64_t s, std::int64_t t, const attnres::TokenSources& sources) {
    return attnres::given_gradient(attnres::load_row(tensors.dout, s, t / p.T, t % p.T), sources.v);
  };
  attnres::read_backward(p, tensors, dout, reference);
  return reference;
}

}  // namespace attn
