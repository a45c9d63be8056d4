// The command line: parses, calls, returns the exit code.
#pragma once

#include "harness/plugin/attnbench_embed.h"

namespace attn {

/// 0 fine, 1 a cell is wrong, 2 bad usage (one sentence on stderr).
/// `embedding` is of the program around this one, null where this is the program.
int run_command_line(int argc, const char* const* argv, const AttnbenchEmbedding* embedding);

}  // namespace attn
