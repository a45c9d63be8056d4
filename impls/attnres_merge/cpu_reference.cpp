// The fp64 oracle of the merge as a backend: slow and obvious.
#include "impls/attnres/cpu_reference.h"

#include "reference/attnres_merge/contract.h"

namespace attn::attnres_merge {
namespace {

using Problem = AttnResMerge::Problem;
using Tensors = AttnResMerge::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

std::vector<TensorView> outputs(const Problem& p, const Tensors& t) {
  std::vector<TensorView> views = {t.out};
  if (p.lse == attnres::Option::kOn) views.push_back(t.lse);
  if (p.update == attnres::Option::kOn) views.push_back(t.sum);
  return views;
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, t](Stream) {
    attnres::store_reference(AttnResMerge::oracle(p, t), outputs(p, t));
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
