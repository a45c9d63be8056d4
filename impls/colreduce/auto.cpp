// The column reduction by whichever backend is the fastest for the problem.
//
// Computes nothing itself: auto_choice.h orders the backends by shape and device, the first that
// takes the problem plans the launch. The others are faster or slower than each other by the number
// of queries, by what a mask hides and by options; a caller who does not care which one runs need
// not know.
// Mapping, memory, traffic: those of the backend that the row's note names.
// Rounding: likewise; a launch carries the numerics class of its backend. One problem always gets
//   the same backend on a device, hence the same bits; two forms of one problem may get two.
// Source: the rows under results/ that auto_choice.h names.
#include <cstddef>
#include <string>

#include "impls/colreduce/auto_choice.h"

namespace attn::colreduce {
namespace {

Support supports(const ColReduce::Problem& problem, const DeviceInfo& device) {
  return choose_backend(problem, device).support;
}

std::size_t workspace_bytes(const ColReduce::Problem& problem, const DeviceInfo& device) {
  const auto bytes = choose_backend(problem, device).backend->workspace_bytes;
  return bytes ? bytes(problem, device) : 0;
}

Launch plan(const ColReduce::Problem& problem,
            const ColReduce::Tensors& tensors,
            Workspace workspace,
            const DeviceInfo& device) {
  const Backend<ColReduce>& chosen = *choose_backend(problem, device).backend;
  Launch launch = chosen.plan(problem, tensors, workspace, device);
  launch.numerics = chosen.info.numerics;
  launch.note = std::string(chosen.info.id) + (launch.note.empty() ? "" : ": ") + launch.note;
  return launch;
}

}  // namespace

extern const Backend<ColReduce> auto_choice;
constinit const Backend<ColReduce> auto_choice = {
    .info = {.id = "auto",
             .summary = "the fastest of the others for the problem and the device",
             .memory = MemorySpace::kAny,
             .math = "that of the backend in the note",
             .numerics = NumericsClass::kHalfWeights},  // at most; a launch has its backend's
    .supports = supports,
    .workspace_bytes = workspace_bytes,
    .plan = plan};

}  // namespace attn::colreduce
