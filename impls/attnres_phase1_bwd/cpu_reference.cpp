// The fp64 oracle of phase 1's backward as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_phase1_bwd/contract.h"

namespace attn::attnres_phase1_bwd {
namespace {

using Problem = AttnResPhase1Bwd::Problem;
using Tensors = AttnResPhase1Bwd::Tensors;

std::vector<TensorView> outputs(const Problem& p, const Tensors& t) {
  std::vector<TensorView> views;
  for (std::int64_t n = 0; n < p.N; ++n) views.push_back(t.dv.view(n, p));
  views.push_back(t.dwt);
  return views;
}

}  // namespace

extern const Backend<AttnResPhase1Bwd> cpu_reference;
constinit const Backend<AttnResPhase1Bwd> cpu_reference =
    attnres::reference_backend<AttnResPhase1Bwd, outputs>(
        {.id = "cpu_reference", .summary = "the fp64 oracle, token by token", .math = "fp64"});

}  // namespace attn::attnres_phase1_bwd
