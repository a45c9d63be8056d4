// Every backend of phase 1, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_phase1/contract.h"

namespace attn {
namespace attnres_phase1 {
extern const Backend<AttnResPhase1> cpu_reference, cpu_fused, libtorch, fused_simt, bulk_sm90;

constexpr BackendSlot<AttnResPhase1> kSlots[] = {
    ATTN_BACKEND_HOST(cpu_reference), ATTN_BACKEND_HOST(cpu_fused), ATTN_BACKEND_TORCH(libtorch),
    ATTN_BACKEND_CUDA(fused_simt),    ATTN_BACKEND_SM90(bulk_sm90),
};
}  // namespace attnres_phase1

std::span<const BackendSlot<AttnResPhase1>> AttnResPhase1::backends() {
  return attnres_phase1::kSlots;
}

}  // namespace attn
