// The fp64 oracle of the mix's backward as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_mix_bwd/contract.h"

namespace attn::attnres_mix_bwd {
namespace {

using Problem = AttnResMixBwd::Problem;
using Tensors = AttnResMixBwd::Tensors;

std::vector<TensorView> outputs(const Problem& p, const Tensors& t) {
  std::vector<TensorView> views;
  for (std::int64_t n = 0; n < p.N; ++n) views.push_back(t.dv.view(n, p));
  views.push_back(t.dwt);
  if (p.has_norm()) views.push_back(t.dgamma);
  return views;
}

}  // namespace

extern const Backend<AttnResMixBwd> cpu_reference;
constinit const Backend<AttnResMixBwd> cpu_reference =
    attnres::reference_backend<AttnResMixBwd, outputs>(
        {.id = "cpu_reference", .summary = "the fp64 oracle, token by token", .math = "fp64"});

}  // namespace attn::attnres_mix_bwd
