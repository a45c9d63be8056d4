// Every backend of a network, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_network/contract.h"

namespace attn {
namespace attnres_network {
extern const Backend<AttnResNetwork> runner_one_shot, runner_two_phase, runner;

constexpr BackendSlot<AttnResNetwork> kSlots[] = {
    ATTN_BACKEND_HOST(runner_one_shot),
    ATTN_BACKEND_HOST(runner_two_phase),
    ATTN_BACKEND_HOST(runner),
};
}  // namespace attnres_network

std::span<const BackendSlot<AttnResNetwork>> AttnResNetwork::backends() {
  return attnres_network::kSlots;
}

}  // namespace attn
