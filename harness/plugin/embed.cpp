// The program's entry for one that has loaded it as a library.
#include "harness/cli.h"
#include "harness/plugin/attnbench_embed.h"

int attnbench_main(int argc, const char* const* argv, const AttnbenchEmbedding* embedding) {
  return attn::run_command_line(argc, argv, embedding);
}
