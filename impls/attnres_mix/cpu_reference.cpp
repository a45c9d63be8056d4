// The fp64 oracle of the mix as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_mix/contract.h"

namespace attn::attnres_mix {
namespace {

using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;

std::vector<TensorView> outputs(const Problem&, const Tensors& t) {
  return attnres::present({t.out, t.normed, t.lse, t.weights, t.sum});
}

}  // namespace

extern const Backend<AttnResMix> cpu_reference;
constinit const Backend<AttnResMix> cpu_reference = attnres::reference_backend<AttnResMix, outputs>(
    {.id = "cpu_reference", .summary = "the fp64 oracle, token by token", .math = "fp64"});

}  // namespace attn::attnres_mix
