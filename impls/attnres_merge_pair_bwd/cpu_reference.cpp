// The fp64 oracle of the backward of the merge of two reads as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn::attnres_merge_pair_bwd {
namespace {

using Problem = AttnResMergePairBwd::Problem;
using Tensors = AttnResMergePairBwd::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::vector<TensorView> outputs(const Problem&, const Tensors& t) {
  return {t.dread_a, t.dread_b, t.dz_a, t.dz_b};
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, t](Stream) {
    attnres::store_reference(AttnResMergePairBwd::oracle(p, t), outputs(p, t));
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMergePairBwd> cpu_reference;
constinit const Backend<AttnResMergePairBwd> cpu_reference = {
    .info = {.id = "cpu_reference",
             .summary = "the fp64 oracle, token by token",
             .memory = MemorySpace::kHost,
             .math = "fp64",
             .numerics = NumericsClass::kFp64},
    .supports = supports,
    .plan = plan};

}  // namespace attn::attnres_merge_pair_bwd
