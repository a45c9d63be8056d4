// attnbench inside another program, such as Python: a C interface to its command line, for backends
// that are functions of that program. libattnbench.so exports it.
#pragma once

#include "harness/plugin/attnbench_plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

/// A function of the program around this one as a plugin.
typedef struct AttnbenchLoaded {
  size_t size;
  const AttnbenchPlugin* plugin;  ///< for `load` to set; stays as long as the process
  const char* hash;               ///< for `load` to set: 16 hex digits of its source, for the rows
} AttnbenchLoaded;

/// What attnbench needs of the program around it.
typedef struct AttnbenchEmbedding {
  size_t size;
  const char* call;  ///< what a user types in place of "attnbench", for the rows' `repro`
  /// The words, NULL behind the last, that start this program again as a worker: the arguments of
  /// attnbench_main without the first follow them. The first word is a path.
  const char* const* worker;
  /// The plugin of the function `name`, such as "module:function"; the same one for the same name.
  /// Returns NULL, or one sentence without its full stop that says why there is none.
  const char* (*load)(const char* name, AttnbenchLoaded* loaded);
} AttnbenchEmbedding;

/// Runs the program with these arguments, of which the first is not looked at, and returns its exit
/// code. `embedding` lives until then.
__attribute__((visibility("default"))) int attnbench_main(int argc,
                                                          const char* const* argv,
                                                          const AttnbenchEmbedding* embedding);

#ifdef __cplusplus
}
#endif
