// The management library: read where it is, unknown where it is not.
#include "harness/nvml.h"

#include <gtest/gtest.h>

namespace attn {
namespace {

TEST(Nvml, WhatTheLibrarySaysIsRead) {
  const Nvml nvml(ATTN_FAKE_NVML);
  const NvmlFacts facts = nvml.facts();
  EXPECT_EQ(facts.driver, "580.1.2");
  EXPECT_EQ(facts.power_limit_w, 700);
  EXPECT_EQ(facts.mig, std::nullopt) << "the library does not know";
  const NvmlState state = nvml.state();
  EXPECT_EQ(state.sm_mhz, 1980);
  EXPECT_EQ(state.power_w, 412.5);
  EXPECT_EQ(state.temperature_c, 61);
  EXPECT_EQ(state.reasons, std::uint64_t{4});
}

TEST(Nvml, AbsentIsUnknown) {
  for (const char* library : {"libno_such_library.so.1", "libc.so.6"}) {
    const Nvml nvml(library);
    EXPECT_EQ(nvml.facts().driver, std::nullopt) << library;
    EXPECT_EQ(nvml.state().reasons, std::nullopt) << library;
  }
}

TEST(Nvml, ReasonsAreToldApart) {
  EXPECT_FALSE(hardware_slowdown(0x1 | 0x4 | 0x20)) << "idle, power cap, software thermal";
  for (const std::uint64_t bit : {0x8, 0x40, 0x80}) EXPECT_TRUE(hardware_slowdown(bit | 0x4));
  EXPECT_TRUE(power_capped(0x5));
  EXPECT_FALSE(power_capped(0x48));
}

}  // namespace
}  // namespace attn
