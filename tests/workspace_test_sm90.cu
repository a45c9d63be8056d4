// What the Hopper backends of the column reduction ask for beside their output, and how many keys they take: no
// GPU is needed.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "harness/core/backend.h"
#include "reference/colreduce/contract.h"
#include "tests/known_devices.h"

namespace attn::colreduce {

extern constinit const Backend<ColReduce> one_pass_sm90;
extern constinit const Backend<ColReduce> split_k_sm90;
extern constinit const Backend<ColReduce> wgmma_sm90;

namespace {

/// 4 B H M + 4 MiB: a float a row, and what does not grow with the problem.
std::size_t limit(const ColReduce::Problem& p) {
  return static_cast<std::size_t>(4 * p.B * p.H * p.M) + (std::size_t{4} << 20);
}

std::vector<ColReduce::Problem> problems() {
  std::vector<ColReduce::Problem> problems;
  for (const std::int64_t B : {1, 16, 256})
    for (const std::int64_t H : {1, 7, 32})
      for (const std::int64_t M : {1, 64, 1000, 4096})
        for (const std::int64_t N : {1, 256, 1024, 4096, 16384, 33792, 67584})
          for (const std::int64_t D : {64, 128})
            for (const Heads heads : {Heads::kEach, Heads::kSum})
              problems.push_back({.B = B, .H = H, .M = M, .N = N, .D = D, .heads = heads});
  return problems;
}

TEST(Workspace, OfHopperBackendsIsAFloatARowAndFourMebibytes) {
  int planned = 0;
  for (const Backend<ColReduce>* backend : {&one_pass_sm90, &split_k_sm90, &wgmma_sm90}) {
    for (const ColReduce::Problem& p : problems()) {
      if (!backend->supports(p, kH200)) continue;
      ++planned;
      EXPECT_LE(backend->workspace_bytes(p, kH200), limit(p))
          << backend->info.id << " B" << p.B << " H" << p.H << " M" << p.M << " N" << p.N << " D"
          << p.D << (p.heads == Heads::kEach ? "" : ", heads summed");
    }
  }
  EXPECT_GT(planned, 1000);
}

/// The most keys that one_pass_sm90 takes of a head of an H200: four chunks a CTA, eight with D up to 64.
TEST(Limits, OfOnePassAreTheKeysThatStayOnChip) {
  const auto takes = [](std::int64_t N, std::int64_t D) {
    return static_cast<bool>(one_pass_sm90.supports({.M = 512, .N = N, .D = D}, kH200));
  };
  for (const std::int64_t D : {8, 64, 72, 96, 128}) {
    const std::int64_t most = D <= 64 ? 67584 : 33792;
    EXPECT_TRUE(takes(most, D)) << D;
    EXPECT_FALSE(takes(most + 1, D)) << D;
  }
  EXPECT_EQ(one_pass_sm90.supports({.M = 512, .N = 33793, .D = 128}, kH200).reason,
            "N must be at most 33792: the weights of a row stay on chip");
}

}  // namespace
}  // namespace attn::colreduce
