// Every read of a network over all its sources at once, on the fastest backends of the reads.
#include "impls/attnres/network_plan.h"

namespace attn::attnres_network {

extern const Backend<AttnResNetwork> runner_one_shot;
constinit const Backend<AttnResNetwork> runner_one_shot =
    attnres::network_backend<AttnResNetwork, attnres::Schedule::kOneShot>(
        {.id = "runner_one_shot",
         .summary = "every sublayer reads all its sources",
         .memory = MemorySpace::kAny,
         .math = "fp32",
         .numerics = NumericsClass::kFp32});

}  // namespace attn::attnres_network
