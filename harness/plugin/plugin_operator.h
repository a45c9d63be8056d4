// Operators with the backends of plugins behind their own.
#pragma once

#include <string>
#include <vector>

#include "harness/operators.h"
#include "harness/plugin/attnbench_embed.h"

namespace attn {

/// The operators; those that plugins bring backends for have them behind their own. `plugins` are
/// names for load_plugin; one that is named twice counts once. UsageError in one sentence for what
/// is no plugin, an operator that is not there and an id that is there already.
Operators with_plugins(Operators operators,
                       const std::vector<std::string>& plugins,
                       const AttnbenchEmbedding* embedding);

}  // namespace attn
