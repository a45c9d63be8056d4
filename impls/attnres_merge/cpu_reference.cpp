// The fp64 oracle of the merge as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge/contract.h"

namespace attn::attnres_merge {
namespace {

using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::vector<TensorView> outputs(const Tensors& t) {
  return attnres::present({t.out, t.normed, t.lse, t.sum});
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, t](Stream) {
    attnres::store_reference(AttnResMerge::oracle(p, t), outputs(t));
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMerge> cpu_reference;
constinit const Backend<AttnResMerge> cpu_reference = {
    .info = {.id = "cpu_reference",
             .summary = "the fp64 oracle, token by token",
             .memory = MemorySpace::kHost,
             .math = "fp64",
             .numerics = NumericsClass::kFp64},
    .supports = supports,
    .plan = plan};

}  // namespace attn::attnres_merge
