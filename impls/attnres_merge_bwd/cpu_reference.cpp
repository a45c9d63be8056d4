// The fp64 oracle of the merge's backward as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge_bwd/contract.h"

namespace attn::attnres_merge_bwd {
namespace {

using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;

std::vector<TensorView> outputs(const Problem&, const Tensors& t) {
  return attnres::present({t.dpartial, t.dread, t.dz, t.dwt, t.dgamma});
}

}  // namespace

extern const Backend<AttnResMergeBwd> cpu_reference;
constinit const Backend<AttnResMergeBwd> cpu_reference =
    attnres::reference_backend<AttnResMergeBwd, outputs>(
        {.id = "cpu_reference", .summary = "the fp64 oracle, token by token", .math = "fp64"});

}  // namespace attn::attnres_merge_bwd
