// The command line: parses, calls, returns the exit code.
#pragma once

namespace attn {

/// 0 fine, 1 a cell is wrong, 2 bad usage (one sentence on stderr).
int run_command_line(int argc, char** argv);

}  // namespace attn
