// Kernel names in rows.
#include "harness/kernel_name.h"

#include <gtest/gtest.h>

namespace attn {
namespace {

TEST(KernelName, DropsNamespacesReturnTypeAndParameters) {
  EXPECT_EQ(short_kernel_name("_ZN4attn9colreduce7row_runI6__halfLi8EEEvPKT_i"),
            "row_run<__half, 8>");
  EXPECT_EQ(short_kernel_name(
                "_ZN4attn9colreduce46_GLOBAL__N__d706155b_13_fused_simt_cu_b5f17fdd8row_passI6__"
                "halfLi8EEEvNS1_6ParamsE"),
            "row_pass<__half, 8>");
}

TEST(KernelName, PlainFunctionsKeepTheirName) {
  EXPECT_EQ(short_kernel_name("_ZN4attn11merge_partsEPKfPfil"), "merge_parts");
}

TEST(KernelName, WhatIsNotMangledStays) {
  EXPECT_EQ(short_kernel_name("gemm kernel"), "gemm kernel");
}

}  // namespace
}  // namespace attn
