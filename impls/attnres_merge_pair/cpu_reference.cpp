// The fp64 oracle of the merge of two reads as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge_pair/contract.h"

namespace attn::attnres_merge_pair {
namespace {

using Problem = AttnResMergePair::Problem;
using Tensors = AttnResMergePair::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::vector<TensorView> outputs(const Problem&, const Tensors& t) { return {t.out, t.lse}; }

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, t](Stream) {
    attnres::store_reference(AttnResMergePair::oracle(p, t), outputs(p, t));
  };
  return launch;
}

}  // namespace

extern const Backend<AttnResMergePair> cpu_reference;
constinit const Backend<AttnResMergePair> cpu_reference = {
    .info = {.id = "cpu_reference",
             .summary = "the fp64 oracle, token by token",
             .memory = MemorySpace::kHost,
             .math = "fp64",
             .numerics = NumericsClass::kFp64},
    .supports = supports,
    .plan = plan};

}  // namespace attn::attnres_merge_pair
