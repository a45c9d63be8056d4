// The network's operators on a runner, for every schedule: what its backends share.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

#include "harness/core/backend.h"
#include "impls/attnres/runner_config.h"
#include "reference/attnres_network/contract.h"
#include "reference/attnres_network_bwd/contract.h"

namespace attn::attnres {

Support network_supports(const NetworkProblem& p,
                         const DeviceInfo& device,
                         Schedule schedule,
                         bool gradient);
std::size_t network_workspace(const NetworkProblem& p,
                              const DeviceInfo& device,
                              Schedule schedule,
                              bool gradient);
Launch plan_network(const AttnResNetwork::Problem& p,
                    const AttnResNetwork::Tensors& t,
                    Workspace workspace,
                    const DeviceInfo& device,
                    Schedule schedule);
Launch plan_network(const AttnResNetworkBwd::Problem& p,
                    const AttnResNetworkBwd::Tensors& t,
                    Workspace workspace,
                    const DeviceInfo& device,
                    Schedule schedule);

/// A backend of Op, a network or its backward, that runs a schedule wherever the tensors are.
template <class Op, Schedule kSchedule>
constexpr Backend<Op> network_backend(const BackendInfo& info) {
  constexpr bool kGradient = std::is_same_v<Op, AttnResNetworkBwd>;
  using Problem = typename Op::Problem;
  return {.info = info,
          .supports =
              [](const Problem& p, const DeviceInfo& device) {
                return network_supports(p, device, kSchedule, kGradient);
              },
          .workspace_bytes =
              [](const Problem& p, const DeviceInfo& device) {
                return network_workspace(p, device, kSchedule, kGradient);
              },
          .plan =
              [](const Problem& p, const typename Op::Tensors& t, Workspace workspace,
                 const DeviceInfo& device) {
                return plan_network(p, t, workspace, device, kSchedule);
              }};
}

}  // namespace attn::attnres
