// The fp64 oracle of phase 1 as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_phase1/contract.h"

namespace attn::attnres_phase1 {
namespace {

using Problem = AttnResPhase1::Problem;
using Tensors = AttnResPhase1::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::vector<TensorView> outputs(const Problem&, const Tensors& t) { return {t.out, t.lse}; }

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, t](Stream) {
    attnres::store_reference(AttnResPhase1::oracle(p, t), outputs(p, t));
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResPhase1> cpu_reference;
constinit const Backend<AttnResPhase1> cpu_reference = {
    .info = {.id = "cpu_reference",
             .summary = "the fp64 oracle, token by token",
             .memory = MemorySpace::kHost,
             .math = "fp64",
             .numerics = NumericsClass::kFp64},
    .supports = supports,
    .plan = plan};

}  // namespace attn::attnres_phase1
