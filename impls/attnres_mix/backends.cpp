// Every backend of the mix, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_mix/contract.h"

namespace attn {
namespace attnres_mix {
extern const Backend<AttnResMix> cpu_reference, cpu_fused, libtorch, fused_simt, cluster_sm90;

constexpr BackendSlot<AttnResMix> kSlots[] = {
    ATTN_BACKEND_HOST(cpu_reference), ATTN_BACKEND_HOST(cpu_fused),    ATTN_BACKEND_TORCH(libtorch),
    ATTN_BACKEND_CUDA(fused_simt),    ATTN_BACKEND_SM90(cluster_sm90),
};
}  // namespace attnres_mix

std::span<const BackendSlot<AttnResMix>> AttnResMix::backends() { return attnres_mix::kSlots; }

}  // namespace attn
