// One read of older blocks for all sublayers of a block, into which each merges its partial sum.
#include "impls/attnres/network_plan.h"

namespace attn::attnres_network {

extern const Backend<AttnResNetwork> runner_two_phase;
constinit const Backend<AttnResNetwork> runner_two_phase =
    attnres::network_backend<AttnResNetwork, attnres::Schedule::kTwoPhase>(
        {.id = "runner_two_phase",
         .summary = "one read of older blocks for a whole block, then merges",
         .memory = MemorySpace::kAny,
         .math = "fp32",
         .numerics = NumericsClass::kFp32});

}  // namespace attn::attnres_network
