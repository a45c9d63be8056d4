// The fp64 oracle of the merge as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge/contract.h"

namespace attn::attnres_merge {
namespace {

using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;

std::vector<TensorView> outputs(const Problem&, const Tensors& t) {
  return attnres::present({t.out, t.normed, t.lse, t.sum});
}

}  // namespace

extern const Backend<AttnResMerge> cpu_reference;
constinit const Backend<AttnResMerge> cpu_reference =
    attnres::reference_backend<AttnResMerge, outputs>(
        {.id = "cpu_reference", .summary = "the fp64 oracle, token by token", .math = "fp64"});

}  // namespace attn::attnres_merge
