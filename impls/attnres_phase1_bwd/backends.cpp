// Every backend of phase 1's backward, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {
namespace attnres_phase1_bwd {
extern const Backend<AttnResPhase1Bwd> cpu_reference, cpu_fused, libtorch, fused_simt, bulk_sm90;

constexpr BackendSlot<AttnResPhase1Bwd> kSlots[] = {
    ATTN_BACKEND_HOST(cpu_reference), ATTN_BACKEND_HOST(cpu_fused), ATTN_BACKEND_TORCH(libtorch),
    ATTN_BACKEND_CUDA(fused_simt),    ATTN_BACKEND_SM90(bulk_sm90),
};
}  // namespace attnres_phase1_bwd

std::span<const BackendSlot<AttnResPhase1Bwd>> AttnResPhase1Bwd::backends() {
  return attnres_phase1_bwd::kSlots;
}

}  // namespace attn
