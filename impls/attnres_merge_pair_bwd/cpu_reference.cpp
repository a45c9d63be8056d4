// The fp64 oracle of the backward of the merge of two reads as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn::attnres_merge_pair_bwd {
namespace {

using Problem = AttnResMergePairBwd::Problem;
using Tensors = AttnResMergePairBwd::Tensors;

std::vector<TensorView> outputs(const Problem&, const Tensors& t) {
  return {t.dread_a, t.dread_b, t.dz_a, t.dz_b};
}

}  // namespace

extern const Backend<AttnResMergePairBwd> cpu_reference;
constinit const Backend<AttnResMergePairBwd> cpu_reference =
    attnres::reference_backend<AttnResMergePairBwd, outputs>(
        {.id = "cpu_reference", .summary = "the fp64 oracle, token by token", .math = "fp64"});

}  // namespace attn::attnres_merge_pair_bwd
