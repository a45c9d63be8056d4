// GoogleTest's main; and the worker that the isolation tests start, which is this program again.
#include <gtest/gtest.h>

#include "harness/cell_worker.h"
#include "tests/broken_backends.h"

int main(int argc, char** argv) {
  if (argc > 1 && argv[1] == attn::kServeToyPlan) {
    const bool want_gpu = argc > 2 && argv[2] == std::string_view("cuda");
    attn::serve_cells(attn::toy_plan(), attn::find_machine(want_gpu), {});
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
