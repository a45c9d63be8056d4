// The gradient of every read over all its sources at once, on the fastest backends of the reads.
#include "impls/attnres/network_plan.h"

namespace attn::attnres_network_bwd {

extern const Backend<AttnResNetworkBwd> runner_one_shot;
constinit const Backend<AttnResNetworkBwd> runner_one_shot =
    attnres::network_backend<AttnResNetworkBwd, attnres::Schedule::kOneShot>(
        {.id = "runner_one_shot",
         .summary = "every sublayer reads all its sources, again and for its gradient",
         .memory = MemorySpace::kAny,
         .math = "fp32",
         .numerics = NumericsClass::kFp32});

}  // namespace attn::attnres_network_bwd
