// The fp64 oracle of the merge's backward as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge_bwd/contract.h"

namespace attn::attnres_merge_bwd {
namespace {

using Problem = AttnResMergeBwd::Problem;
using Tensors = AttnResMergeBwd::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::vector<TensorView> outputs(const Tensors& t) {
  return attnres::present({t.dpartial, t.dread, t.dz, t.dwt, t.dgamma});
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, t](Stream) {
    attnres::store_reference(AttnResMergeBwd::oracle(p, t), outputs(t));
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMergeBwd> cpu_reference;
constinit const Backend<AttnResMergeBwd> cpu_reference = {
    .info = {.id = "cpu_reference",
             .summary = "the fp64 oracle, token by token",
             .memory = MemorySpace::kHost,
             .math = "fp64",
             .numerics = NumericsClass::kFp64},
    .supports = supports,
    .plan = plan};

}  // namespace attn::attnres_merge_bwd
