// Every backend of the mix's backward, in reading order.
#include "impls/common/backend_slots.h"
#include "reference/attnres_mix_bwd/contract.h"

namespace attn {
namespace attnres_mix_bwd {
extern const Backend<AttnResMixBwd> cpu_reference, cpu_fused, libtorch, fused_simt;

constexpr BackendSlot<AttnResMixBwd> kSlots[] = {
    ATTN_BACKEND_HOST(cpu_reference),
    ATTN_BACKEND_HOST(cpu_fused),
    ATTN_BACKEND_TORCH(libtorch),
    ATTN_BACKEND_CUDA(fused_simt),
};
}  // namespace attnres_mix_bwd

std::span<const BackendSlot<AttnResMixBwd>> AttnResMixBwd::backends() {
  return attnres_mix_bwd::kSlots;
}

}  // namespace attn
