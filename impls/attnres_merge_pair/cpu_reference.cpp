// The fp64 oracle of the merge of two reads as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge_pair/contract.h"

namespace attn::attnres_merge_pair {
namespace {

using Problem = AttnResMergePair::Problem;
using Tensors = AttnResMergePair::Tensors;

std::vector<TensorView> outputs(const Problem&, const Tensors& t) { return {t.out, t.lse}; }

}  // namespace

extern const Backend<AttnResMergePair> cpu_reference;
constinit const Backend<AttnResMergePair> cpu_reference =
    attnres::reference_backend<AttnResMergePair, outputs>(
        {.id = "cpu_reference", .summary = "the fp64 oracle, token by token", .math = "fp64"});

}  // namespace attn::attnres_merge_pair
