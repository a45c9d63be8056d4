// attnbench: list, verify, bench and report backends of operators on the attention matrix.
#include "harness/cli.h"

int main(int argc, char** argv) { return attn::run_command_line(argc, argv, nullptr); }
