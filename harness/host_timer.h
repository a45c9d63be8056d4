// Wall-clock samples of a launch on the CPU, with cold or hot caches.
#pragma once

#include "harness/gpu.h"

namespace attn::host {

/// Times `count` runs. Cold: a buffer of twice the last-level cache is written before each sample.
gpu::Samples time(const Launch& launch, bool cold, int count, std::size_t cache_bytes);

}  // namespace attn::host
