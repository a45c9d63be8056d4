// The fp64 oracle of phase 1 as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_phase1/contract.h"

namespace attn::attnres_phase1 {
namespace {

using Problem = AttnResPhase1::Problem;
using Tensors = AttnResPhase1::Tensors;

std::vector<TensorView> outputs(const Problem&, const Tensors& t) { return {t.out, t.lse}; }

}  // namespace

extern const Backend<AttnResPhase1> cpu_reference;
constinit const Backend<AttnResPhase1> cpu_reference =
    attnres::reference_backend<AttnResPhase1, outputs>(
        {.id = "cpu_reference", .summary = "the fp64 oracle, token by token", .math = "fp64"});

}  // namespace attn::attnres_phase1
