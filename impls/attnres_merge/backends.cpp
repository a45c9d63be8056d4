// Every backend of the merge, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_merge/contract.h"

namespace attn {
namespace attnres_merge {
extern const Backend<AttnResMerge> cpu_reference, cpu_fused, libtorch, fused_simt;

constexpr BackendSlot<AttnResMerge> kSlots[] = {
    ATTN_BACKEND_HOST(cpu_reference),
    ATTN_BACKEND_HOST(cpu_fused),
    ATTN_BACKEND_TORCH(libtorch),
    ATTN_BACKEND_CUDA(fused_simt),
};
}  // namespace attnres_merge

std::span<const BackendSlot<AttnResMerge>> AttnResMerge::backends() {
  return attnres_merge::kSlots;
}

}  // namespace attn
