// Operators with the backends of plugins behind their own.
#pragma once

#include <string>
#include <vector>

#include "harness/operators.h"

namespace attn {

/// The operators; those that plugins bring backends for have them behind their own. A file that is
/// named twice counts once. UsageError in one sentence for a file that is no plugin, an operator
/// that is not there and an id that is there already.
Operators with_plugins(Operators operators, const std::vector<std::string>& files);

}  // namespace attn
