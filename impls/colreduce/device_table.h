// Tables that a launch brings with it: host data written to device memory by kernels that carry it
// as arguments. Neither the host's memory nor a copy is touched when the launch runs, and a
// captured graph replays it.
#pragma once

#include <cstdint>
#include <vector>

#include "harness/core/backend.h"

namespace attn::colreduce {

/// Writes `words` to device memory at `to`, 4-byte aligned: one kernel for each 3.75 KiB.
void enqueue_table(const std::vector<std::uint32_t>& words, void* to, Stream stream);

/// The kernel behind it, for a launch's report.
KernelUse table_use();

}  // namespace attn::colreduce
