// Which backend `auto` runs a problem with, on devices that need not be here: no GPU is needed.
#include "impls/colreduce/auto_choice.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>

#include "tests/known_devices.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;

const DeviceInfo kHost{.space = MemorySpace::kHost, .name = "host"};

std::string_view first(const Problem& p, const DeviceInfo& device) {
  return auto_order(p, device).front();
}

constexpr std::int64_t k1k = 1024;

TEST(AutoChoice, TheBestOfTheMeasuredCells) {
  const Problem base{.H = 32, .D = 128};
  Problem p = base;
  for (const std::int64_t side : {1 * k1k, 4 * k1k, 16 * k1k, 32 * k1k}) {
    p.M = p.N = side;
    p.mask = Mask::kNone;
    EXPECT_EQ(first(p, kH200), "one_pass_sm90") << side;
    p.mask = Mask::kCausal;
    EXPECT_EQ(first(p, kH200), "one_pass_sm90") << side;
  }
  Problem narrow{.H = 16, .D = 64, .mask = Mask::kCausal};
  for (const std::int64_t side : {4 * k1k, 8 * k1k, 16 * k1k}) {
    narrow.M = narrow.N = side;
    EXPECT_EQ(first(narrow, kH200), "one_pass_sm90") << side;
  }
  p.N = 16 * k1k;
  for (const auto& [M, backend] : {std::pair{64, "split_k_sm90"}, {512, "one_pass_sm90"}}) {
    p.M = M;
    EXPECT_EQ(first(p, kH200), backend);
  }
  p.N = 256 * k1k;  // the others refuse: no room on chip for a row's weights
  EXPECT_EQ(auto_order(p, kH200).at(1), "wgmma_sm90");
  p.M = 64;
  EXPECT_EQ(auto_order(p, kH200).at(1), "split_k");
  p.B = 16;
  EXPECT_EQ(auto_order(p, kH200).at(1), "mma_sm80");
}

TEST(AutoChoice, HeadsThatLeaveTeamsIdle) {
  Problem p{.M = 4 * k1k, .N = 4 * k1k};
  for (const std::int64_t heads : {20, 24, 28, 30, 32, 40, 64}) {
    p.H = heads;
    for (const Mask mask : {Mask::kCausal, Mask::kNone}) {
      p.mask = mask;
      EXPECT_EQ(first(p, kH200), "one_pass_sm90") << heads;
    }
  }
  p = {.H = 28, .M = 2 * k1k, .N = 2 * k1k, .mask = Mask::kCausal};
  EXPECT_EQ(first(p, kH200), "one_pass_sm90");
}

TEST(AutoChoice, OptionsAndWindowsOfObservation) {
  Problem p{.H = 32, .M = 4 * k1k, .N = 4 * k1k, .mask = Mask::kCausal, .query_begin = -32};
  EXPECT_EQ(first(p, kH200), "split_k_sm90");
  EXPECT_EQ(first(p, kA100), "split_k");
  p.H_kv = 8;
  EXPECT_EQ(first(p, kH200), "split_k_sm90");
  p.window = 1023;  // heads share tiles of queries
  EXPECT_EQ(first(p, kH200), "wgmma_sm90");
  p = {.H = 16, .M = 1 * k1k, .N = 1 * k1k, .D = 64, .heads = Heads::kMean};
  EXPECT_EQ(first(p, kH200), "one_pass_sm90");
  p.M = 64;
  EXPECT_EQ(first(p, kH200), "split_k_sm90");
  p.H_kv = 4;
  EXPECT_EQ(first(p, kH200), "split_k_sm90");
  p.query_begin = -32;
  EXPECT_EQ(first(p, kH200), "split_k_sm90");
  p.cu_q = p.cu_k = {0, 5, 1 * k1k};
  EXPECT_EQ(first(p, kH200), "wgmma_sm90");
}

TEST(AutoChoice, KeysAreSplitWhereTilesOfQueriesAreFew) {
  Problem p{.H = 32, .M = 512, .N = 16 * k1k};
  EXPECT_EQ(first(p, kA100), "split_k");
  p.M = 4 * k1k;
  EXPECT_EQ(first(p, kA100), "mma_sm80");
}

/// Of the backends in this build; without kernels of a device there is less to choose from.
std::string_view chosen(const Problem& p, const DeviceInfo& device) {
  const AutoChoice choice = choose_backend(p, device);
  EXPECT_TRUE(choice.backend && choice.support) << choice.support.reason;
  return choice.backend ? choice.backend->info.id : "";
}

/// Calls `check(suite, problem)` for every problem of every suite.
template <class Check>
void for_all_problems(Check&& check) {
  for (const auto& suite : ColReduce::suites())
    for (const auto& c : suite.cases) check(suite.name, c.problem);
}

TEST(AutoChoice, OnTheHostTheFusedBackend) {
  for_all_problems([](const auto&, const Problem& p) { EXPECT_EQ(chosen(p, kHost), "cpu_fused"); });
}

#if ATTN_WITH_CUDA
/// `expected`: all that are chosen for some problem. fused_simt is not where tensor cores could be
/// used, and nowhere in the suites that are measured.
void expect_fused_backends(const DeviceInfo& device, const std::set<std::string_view>& expected) {
  std::set<std::string_view> used;
  for_all_problems([&](const std::string& suite, const Problem& p) {
    const std::string_view id = chosen(p, device);
    used.insert(id);
    if (id != "fused_simt") return;
    EXPECT_FALSE(suite == "readme" || suite == "colsum" || suite == "models");
    if (p.dtype != DType::kF32 && p.D % 8 == 0 && p.D <= 256)
      EXPECT_TRUE(p.q_strides != Extents{}) << suite << ": only odd strides are refused";
  });
  EXPECT_EQ(used, expected);
}

TEST(AutoChoice, TensorCoresWhereTheyCanBeUsed) {
  expect_fused_backends(kA100, {"fused_simt", "mma_sm80", "split_k"});
}
#endif

#if ATTN_WITH_SM90
TEST(AutoChoice, KernelsOfHopperOnHopper) {
  expect_fused_backends(kH200,
                        {"fused_simt", "split_k", "wgmma_sm90", "one_pass_sm90", "split_k_sm90"});
}

TEST(AutoChoice, GoesOnWhereTheFirstRefuses) {
  const Problem p{.H = 32, .M = 512, .N = 256 * k1k, .mask = Mask::kCausal};
  EXPECT_EQ(first(p, kH200), "one_pass_sm90");
  EXPECT_EQ(chosen(p, kH200), "wgmma_sm90");
}
#endif

TEST(AutoChoice, CarriesTheBackendsNameAndBound) {
  const Problem p{.M = 3, .N = 5, .D = 8};
  for (const auto& slot : ColReduce::backends()) {
    if (slot.id != "auto") continue;
    const Launch launch = slot.backend->plan(p, {}, {}, kHost);
    EXPECT_TRUE(launch.note.starts_with("cpu_fused: ")) << launch.note;
    EXPECT_EQ(launch.numerics, NumericsClass::kFp32);
  }
}

/// `auto` promises what each of them does.
TEST(AutoChoice, PromisesWhatItsBackendsDo) {
  std::set<std::string_view> asked;
  for_all_problems([&](const auto&, const Problem& p) {
    for (const DeviceInfo& device : {kHost, kA100, kH200})
      for (const std::string_view id : auto_order(p, device)) asked.insert(id);
  });
  EXPECT_EQ(asked.size(), 7U);
  for (const auto& slot : ColReduce::backends()) {
    if (!slot.backend || !asked.count(slot.id)) continue;
    EXPECT_TRUE(slot.backend->info.deterministic) << slot.id;
    EXPECT_NE(slot.backend->info.numerics, NumericsClass::kStored) << slot.id;
  }
}

}  // namespace
}  // namespace attn::colreduce
