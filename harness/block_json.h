// Blocks as JSON, in rows and between a comparison's processes.
#pragma once

#include "harness/blocks.h"
#include "harness/row.h"

namespace attn {

/// {"first": "A", "ns": [20 samples in order], "mhz": [4 clocks] or null}
Json to_json(const Block& block);
/// Throws nlohmann::json::exception when it is no block.
Block block_from_json(const Json& json);

}  // namespace attn
