// The schedule that moves least: one read a sublayer where there are few older blocks, then two phases.
#include "impls/attnres/network_plan.h"

namespace attn::attnres_network {

extern const Backend<AttnResNetwork> runner;
constinit const Backend<AttnResNetwork> runner =
    attnres::network_backend<AttnResNetwork, attnres::Schedule::kAuto>(
        {.id = "runner",
         .summary = "one read a sublayer in the first blocks, then two phases",
         .memory = MemorySpace::kAny,
         .math = "fp32",
         .numerics = NumericsClass::kFp32});

}  // namespace attn::attnres_network
