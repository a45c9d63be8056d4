// Every backend of the merge's backward, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_merge_bwd/contract.h"

namespace attn {
namespace attnres_merge_bwd {
extern const Backend<AttnResMergeBwd> cpu_reference, cpu_fused, libtorch, fused_simt;

constexpr BackendSlot<AttnResMergeBwd> kSlots[] = {
    ATTN_BACKEND_HOST(cpu_reference),
    ATTN_BACKEND_HOST(cpu_fused),
    ATTN_BACKEND_TORCH(libtorch),
    ATTN_BACKEND_CUDA(fused_simt),
};
}  // namespace attnres_merge_bwd

std::span<const BackendSlot<AttnResMergeBwd>> AttnResMergeBwd::backends() {
  return attnres_merge_bwd::kSlots;
}

}  // namespace attn
