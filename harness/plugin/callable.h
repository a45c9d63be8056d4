// Backends that are functions of the program around this one, called "module:function".
#pragma once

#include <string>
#include <vector>

#include "harness/plugin/attnbench_embed.h"

namespace attn {

/// Whether a name is of the form module.module:function.
bool names_callable(const std::string& name);

/// Of a list such as "my_module:my_function,cpu_fused": adds the callables to `plugins` and returns
/// the list with the ids that they have as backends, "py_my_function,cpu_fused". UsageError in one
/// sentence where there is no such function.
std::string with_callables(const std::string& backends,
                           std::vector<std::string>& plugins,
                           const AttnbenchEmbedding* embedding);

}  // namespace attn
