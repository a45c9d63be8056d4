// The fp64 oracle as a backend: what every other backend is compared with, slow and obvious.
#include "reference/colreduce/contract.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;
using Tensors = ColReduce::Tensors;

Launch plan(const Problem& p, const Tensors& tensors, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, tensors](Stream) {
    const ColReduce::Reference reference = ColReduce::oracle(p, tensors);
    const std::int64_t outputs = p.B * p.out_heads() * p.N;
    for (std::size_t i = 0; i < reference.value.size(); ++i) {
      const auto at = static_cast<std::int64_t>(i);
      const TensorView& to = at < outputs ? tensors.out : tensors.lse;
      store_element(to.data, to.dtype, at < outputs ? at : at - outputs,
                    static_cast<float>(reference.value[i]));
    }
  };
  return launch;
}

}  // namespace

extern const Backend<ColReduce> cpu_reference;
constinit const Backend<ColReduce> cpu_reference = {
    .info = {.id = "cpu_reference",
             .summary = "the fp64 oracle: two passes per row, nothing saved, nothing shared",
             .memory = MemorySpace::kHost,
             .math = "fp64",
             .numerics = NumericsClass::kFp64},
    .plan = plan};

}  // namespace attn::colreduce
