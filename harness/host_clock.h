// The core's clock, read off a chain of multiplications whose latency is known.
#pragma once

#include <optional>

namespace attn::host {

/// MHz of the core that the caller runs on; empty where the latency is not known.
std::optional<double> clock_mhz();

}  // namespace attn::host
