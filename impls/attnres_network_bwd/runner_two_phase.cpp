// Merges are differentiated one by one, then one backward of phase 1 for all sublayers of a block.
#include "impls/attnres/network_plan.h"

namespace attn::attnres_network_bwd {

extern const Backend<AttnResNetworkBwd> runner_two_phase;
constinit const Backend<AttnResNetworkBwd> runner_two_phase =
    attnres::network_backend<AttnResNetworkBwd, attnres::Schedule::kTwoPhase>(
        {.id = "runner_two_phase",
         .summary = "merges are differentiated one by one, a block's older sources once",
         .memory = MemorySpace::kAny,
         .math = "fp32",
         .numerics = NumericsClass::kFp32});

}  // namespace attn::attnres_network_bwd
