// The fp64 oracle of the mix as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_mix/contract.h"

namespace attn::attnres_mix {
namespace {

using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::vector<TensorView> outputs(const Tensors& t) {
  return attnres::present({t.out, t.normed, t.lse, t.weights, t.sum});
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, t](Stream) {
    attnres::store_reference(AttnResMix::oracle(p, t), outputs(t));
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMix> cpu_reference;
constinit const Backend<AttnResMix> cpu_reference = {
    .info = {.id = "cpu_reference",
             .summary = "the fp64 oracle, token by token",
             .memory = MemorySpace::kHost,
             .math = "fp64",
             .numerics = NumericsClass::kFp64},
    .supports = supports,
    .plan = plan};

}  // namespace attn::attnres_mix
