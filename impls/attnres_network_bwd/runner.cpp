// The schedule that moves least: one read a sublayer in the first block, then two phases.
#include "impls/attnres/network_plan.h"

namespace attn::attnres_network_bwd {

extern const Backend<AttnResNetworkBwd> runner;
constinit const Backend<AttnResNetworkBwd> runner =
    attnres::network_backend<AttnResNetworkBwd, attnres::Schedule::kAuto>(
        {.id = "runner",
         .summary = "one read a sublayer in the first block, then two phases",
         .memory = MemorySpace::kAny,
         .math = "fp32",
         .numerics = NumericsClass::kFp32});

}  // namespace attn::attnres_network_bwd
