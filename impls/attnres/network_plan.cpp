// A runner's launches, recorded around sublayers that only hand out given planes.
#include "impls/attnres/network_plan.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "impls/attnres/block_runner.h"
#include "impls/attnres/plane_ops.h"

namespace attn::attnres {
namespace {

RunnerConfig config_of(const NetworkProblem& p, Schedule schedule, bool gradient) {
  return {.network = p, .schedule = schedule, .gradient = gradient};
}

/// One launch of many, in order; each kernel is listed once.
class Recording {
 public:
  Emit emit() {
    return [this](Launch launch) { launches_->push_back(std::move(launch)); };
  }
  Launch launch(std::string note) const {
    Launch all;
    all.note = std::move(note);
    for (const Launch& one : *launches_) {
      for (const KernelUse& use : one.kernels) {
        const auto same = [&use](const KernelUse& other) {
          return other.function == use.function &&
                 other.dynamic_shared_bytes == use.dynamic_shared_bytes;
        };
        if (std::none_of(all.kernels.begin(), all.kernels.end(), same)) all.kernels.push_back(use);
      }
    }
    all.enqueue = [launches = launches_](Stream stream) {
      for (const Launch& one : *launches) one.enqueue(stream);
    };
    return all;
  }

 private:
  std::shared_ptr<std::vector<Launch>> launches_ = std::make_shared<std::vector<Launch>>();
};

/// A backward reads for sublayers that are given: one plane, in front of the runner's workspace.
std::size_t unread_bytes(const RunnerConfig& config) {
  constexpr std::size_t kAlignment = 256;
  return (config.plane_bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

/// Plane `index` of a dense tensor [planes, B, T, D].
void* plane(const TensorView& view, std::int64_t index) {
  return static_cast<char*>(view.data) +
         static_cast<std::size_t>(index * view.strides[0]) * size_of(view.dtype);
}

}  // namespace

Support network_supports(const NetworkProblem& p,
                         const DeviceInfo& device,
                         Schedule schedule,
                         bool gradient) {
  return BlockRunner::supports(config_of(p, schedule, gradient), device);
}

std::size_t network_workspace(const NetworkProblem& p,
                              const DeviceInfo& device,
                              Schedule schedule,
                              bool gradient) {
  const RunnerConfig config = config_of(p, schedule, gradient);
  return BlockRunner::workspace_bytes(config, device) + (gradient ? unread_bytes(config) : 0);
}

Launch plan_network(const AttnResNetwork::Problem& p,
                    const AttnResNetwork::Tensors& t,
                    Workspace workspace,
                    const DeviceInfo& device,
                    Schedule schedule) {
  const RunnerConfig config = config_of(p, schedule, /*gradient=*/false);
  Recording recording;
  const auto place = [&](std::int64_t i) { return plane(t.reads, p.plane_of(i)); };
  // A read that the runner has put elsewhere is an output too, unless a later one takes its place.
  const auto forward = [&](std::int64_t i, const void* h) -> const void* {
    if (h != place(i) && p.is_last_user(i))
      recording.emit()(copy_bytes(place(i), h, config.plane_bytes(), device));
    return plane(t.updates, p.plane_of(i));
  };
  BlockRunner runner(config, device,
                     {.embedding = t.embedding.data,
                      .wt = t.wt.data,
                      .blocks = t.blocks.data,
                      .out = t.out.data,
                      .workspace = workspace},
                     {.place = place, .forward = forward, .backward = nullptr}, recording.emit());
  runner.forward();
  return recording.launch(runner.note());
}

Launch plan_network(const AttnResNetworkBwd::Problem& p,
                    const AttnResNetworkBwd::Tensors& t,
                    Workspace workspace,
                    const DeviceInfo& device,
                    Schedule schedule) {
  const RunnerConfig config = config_of(p, schedule, /*gradient=*/true);
  Recording recording;
  void* unread = workspace.data;
  const std::size_t taken = unread_bytes(config);
  BlockRunner runner(
      config, device,
      {.embedding = t.blocks.data,
       .wt = t.wt.data,
       .blocks = plane(t.blocks, 1),
       .dout = t.dout.data,
       .dblocks = t.dblocks.data,
       .dwt = static_cast<float*>(t.dwt.data),
       .workspace = {static_cast<char*>(workspace.data) + taken, workspace.bytes - taken}},
      {.place = [&](std::int64_t) { return unread; },
       .forward = [&](std::int64_t i, const void*) -> const void* {
         return plane(t.updates, p.plane_of(i));
       },
       .backward = [&](std::int64_t i, const void*) -> const void* {
         return plane(t.dreads, p.plane_of(i));
       }},
      recording.emit());
  runner.backward();
  return recording.launch(runner.note());
}

}  // namespace attn::attnres
