// Every backend of the backward of the merge of two reads, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_merge_pair_bwd/contract.h"

namespace attn {
namespace attnres_merge_pair_bwd {
extern const Backend<AttnResMergePairBwd> cpu_reference, cpu_fused, libtorch, fused_simt;

constexpr BackendSlot<AttnResMergePairBwd> kSlots[] = {
    ATTN_BACKEND_HOST(cpu_reference),
    ATTN_BACKEND_HOST(cpu_fused),
    ATTN_BACKEND_TORCH(libtorch),
    ATTN_BACKEND_CUDA(fused_simt),
};
}  // namespace attnres_merge_pair_bwd

std::span<const BackendSlot<AttnResMergePairBwd>> AttnResMergePairBwd::backends() {
  return attnres_merge_pair_bwd::kSlots;
}

}  // namespace attn
