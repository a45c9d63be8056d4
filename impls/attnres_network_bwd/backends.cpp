// Every backend of a network's backward, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_network_bwd/contract.h"

namespace attn {
namespace attnres_network_bwd {
extern const Backend<AttnResNetworkBwd> runner_one_shot, runner_two_phase, runner;

constexpr BackendSlot<AttnResNetworkBwd> kSlots[] = {
    ATTN_BACKEND_HOST(runner_one_shot),
    ATTN_BACKEND_HOST(runner_two_phase),
    ATTN_BACKEND_HOST(runner),
};
}  // namespace attnres_network_bwd

std::span<const BackendSlot<AttnResNetworkBwd>> AttnResNetworkBwd::backends() {
  return attnres_network_bwd::kSlots;
}

}  // namespace attn
