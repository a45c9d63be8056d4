// The fp64 oracle as a backend: what every other backend is compared with, slow and obvious.
#include "reference/colreduce/contract.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;
using Tensors = ColReduce::Tensors;

Support supports(const Problem&, const DeviceInfo&) { return Support::yes(); }

Launch plan(const Problem& p, const Tensors& tensors, Workspace, const DeviceInfo&) {
  Launch launch;
  launch.enqueue = [p, tensors](Stream) {
    const ColReduce::Reference reference = ColReduce::oracle(p, tensors);
    for (std::size_t i = 0; i < reference.value.size(); ++i)
      store_element(tensors.out.data, tensors.out.dtype, static_cast<std::int64_t>(i),
                    static_cast<float>(reference.value[i]));
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
    .supports = supports,
    .plan = plan};

}  // namespace attn::colreduce
