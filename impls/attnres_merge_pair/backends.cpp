// Every backend of the merge of two reads, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_merge_pair/contract.h"

namespace attn {
namespace attnres_merge_pair {
extern const Backend<AttnResMergePair> cpu_reference, cpu_fused, libtorch, fused_simt;

constexpr BackendSlot<AttnResMergePair> kSlots[] = {
    ATTN_BACKEND_HOST(cpu_reference),
    ATTN_BACKEND_HOST(cpu_fused),
    ATTN_BACKEND_TORCH(libtorch),
    ATTN_BACKEND_CUDA(fused_simt),
};
}  // namespace attnres_merge_pair

std::span<const BackendSlot<AttnResMergePair>> AttnResMergePair::backends() {
  return attnres_merge_pair::kSlots;
}

}  // namespace attn
