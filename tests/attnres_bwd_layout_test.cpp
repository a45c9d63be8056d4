// How bulk_sm90 lays phase 1's backward out: what is chosen fits, warps have all columns, and the published
// shapes get the layout that they are meant for.
#include <gtest/gtest.h>

#include "impls/attnres_phase1_bwd/bulk_layout.h"
#include "tests/known_devices.h"

namespace attn::attnres_phase1_bwd {
namespace {

AttnResPhase1Bwd::Problem problem(std::int64_t N, std::int64_t S, std::int64_t T, std::int64_t D) {
  AttnResPhase1Bwd::Problem p;
  p.N = N, p.S = S, p.T = T, p.D = D;
  return p;
}

AttnResPhase1Bwd::Problem added(AttnResPhase1Bwd::Problem p) {
  for (std::int64_t n = 0; n < p.N; ++n) p.add_to.push_back(n);
  return p;
}

std::string layout_of(const AttnResPhase1Bwd::Problem& p) {
  return describe(choose_layout(p, kH200));
}

TEST(AttnResBwdLayout, PassesHoldEveryPairOnce) {
  for (int N = 1; N <= kLayoutSources; ++N) {
    const WeightLanes lanes = WeightLanes::of(N);
    EXPECT_GE(2 << lanes.width_log2, N);
    EXPECT_TRUE(N > 32 || 1 << lanes.width_log2 >= N) << N;
    for (int S = 1; S <= kLayoutQueries; ++S) {
      EXPECT_GE(lanes.passes(S) * lanes.queries(), S) << N;
      EXPECT_LT((lanes.passes(S) - 1) * lanes.queries(), S) << N;
    }
  }
}

TEST(AttnResBwdLayout, WarpsShareTheStepsOfTheProducts) {
  for (int steps = 1; steps <= kLayoutWarps * 4; ++steps) {
    for (const int N : {1, 8, 9, 16, 17, 64}) {
      for (int passes = 1; passes <= kLayoutQueries; ++passes) {
        int end = 0;
        for (int warp = 0; warp < kProductWarps; ++warp) {
          const StepShare share = StepShare::of(steps, N, passes, warp);
          EXPECT_EQ(share.first, end) << steps;
          EXPECT_GE(share.count, 0) << steps;
          end += share.count;
        }
        EXPECT_EQ(end, steps) << N << " sources, " << passes << " passes";
      }
    }
  }
  EXPECT_EQ(StepShare::of(64, 4, 1, 0).count, 16) << "the headline's one pass is this warp's";
  EXPECT_EQ(StepShare::of(64, 4, 1, 2).count, 24);
  EXPECT_EQ(StepShare::of(64, 64, 1, 0).count, 20) << "beside eight tiles a pass is little";
}

TEST(AttnResBwdLayout, EverythingFits) {
  for (const std::int64_t N : {1, 2, 3, 4, 5, 8, 9, 16, 17, 64}) {
    for (const std::int64_t S : {1, 2, 3, 5, 8, 9, 12, 16}) {
      for (const std::int64_t T : {1, 20, 100000}) {
        for (const std::int64_t D : {8, 48, 896, 1168, 2048, 2304, 7168, 16384}) {
          for (const auto& p : {problem(N, S, T, D), added(problem(N, S, T, D))}) {
            const BulkLayout layout = choose_layout(p, kH200);
            if (layout.ranks == 0) continue;
            const BulkMemory& memory = layout.memory;
            EXPECT_LE(layout.ctas * (memory.bytes + 1024), 228 * 1024);
            EXPECT_LE(layout.ctas * layout.threads(), 32 * kSmWarps);
            EXPECT_EQ(layout.warps % 4, 0) << "registers move between warpgroups";
            EXPECT_GE(layout.queries, S);
            EXPECT_LE(layout.blocks, most_blocks(layout.queries));
            EXPECT_GE(layout.ranks * layout.warps * layout.blocks * kBlockColumns, D);
            EXPECT_GE(layout.stages, 2) << "rows come while others are read";
            EXPECT_EQ(memory.pitch / 16 % 2, 1) << "eight rows must meet no bank twice";
            EXPECT_LT(memory.stage_bytes, 1 << 20) << "bytes that a barrier can count";
            for (const int at : {memory.pitch, memory.held, memory.stage_bytes, memory.queries,
                                 memory.sums, memory.warp_sums, memory.weights, memory.norms,
                                 memory.outputs, memory.exchange, memory.barriers})
              EXPECT_EQ(at % 16, 0);
            EXPECT_EQ(memory.padded % 4, 0) << "a quad of sources is read whole";
            EXPECT_LE(memory.stage_bytes * layout.stages, memory.queries);
            EXPECT_LE(memory.queries + static_cast<int>(S) * memory.pitch, memory.sums);
            EXPECT_LE(memory.sums + kProductWarps * memory.warp_sums, memory.weights);
          }
        }
      }
    }
  }
}

TEST(AttnResBwdLayout, TheHeadlineHasATokenPerSmAndOthersOnTheirWay) {
  const auto headline = problem(4, 8, 65536, 2048);
  EXPECT_EQ(layout_of(headline), "16 warps of 4 blocks, 4 stages");
  EXPECT_EQ(layout_of(added(headline)), "16 warps of 4 blocks, 3 stages");
}

TEST(AttnResBwdLayout, NarrowRowsAreSpreadOverAllWarps) {
  EXPECT_EQ(layout_of(problem(8, 4, 32768, 896)), "16 warps of 2 blocks, 6 stages");
  EXPECT_EQ(layout_of(problem(8, 4, 32768, 1168)), "16 warps of 3 blocks, 6 stages");
  EXPECT_EQ(layout_of(problem(4, 8, 32768, 512)), "16 warps of 1 block, 6 stages");
  EXPECT_EQ(choose_layout(problem(4, 8, 32768, 256), kH200).ctas, 2);
}

TEST(AttnResBwdLayout, RowsThatAreTooLargeAreSplitOverAnEvenCluster) {
  EXPECT_EQ(layout_of(problem(16, 8, 65536, 2048)),
            "2 CTAs a cluster, 16 warps of 2 blocks, 3 stages");
  EXPECT_EQ(layout_of(problem(9, 6, 32768, 2304)),
            "2 CTAs a cluster, 12 warps of 3 blocks, 5 stages");
  EXPECT_EQ(choose_layout(problem(8, 8, 8192, 4096), kH200).ranks, 2);
  EXPECT_EQ(choose_layout(problem(8, 12, 8192, 7168), kH200).ranks, 8);
}

TEST(AttnResBwdLayout, FewTokensAreSpreadOverMoreSms) {
  EXPECT_EQ(choose_layout(problem(4, 8, 16, 2048), kH200).ranks, 8);
  EXPECT_EQ(choose_layout(problem(4, 8, 60, 2048), kH200).ranks, 2);
  EXPECT_EQ(choose_layout(problem(4, 8, 1, 128), kH200).ranks, 1);
  EXPECT_EQ(
      most_clusters(problem(4, 8, 5, 2048), choose_layout(problem(4, 8, 5, 2048), kH200), kH200),
      5);
}

TEST(AttnResBwdLayout, WhatKernelsCannotTakeIsRefusedWithTheCondition) {
  const auto reason = [](auto change) {
    auto p = problem(4, 8, 64, 2048);
    change(p);
    return bulk_supports(p, kH200).reason;
  };
  using attnres::TypeChoice;
  using Problem = AttnResPhase1Bwd::Problem;
  EXPECT_EQ(reason([](Problem&) {}), "");
  EXPECT_EQ(reason([](Problem& p) { p.grad_dtype = TypeChoice::kF32; }), "");
  EXPECT_EQ(reason([](Problem& p) { p.dtype = DType::kF32; }), "dtype must be f16 or bf16");
  EXPECT_EQ(reason([](Problem& p) { p.query_dtype = TypeChoice::kF32; }),
            "query_dtype must be dtype");
  EXPECT_EQ(reason([](Problem& p) { p.out_dtype = TypeChoice::kF32; }), "out_dtype must be dtype");
  EXPECT_EQ(reason([](Problem& p) { p.grad_dtype = TypeChoice::kF16; }),
            "grad_dtype must be dtype or f32");
  EXPECT_EQ(reason([](Problem& p) { p.D = 1164; }), "D must be a multiple of 8");
  EXPECT_EQ(reason([](Problem& p) { p.token_stride = 2052; }),
            "token_stride must be a multiple of 8");
  EXPECT_EQ(reason([](Problem& p) { p.S = 17; }), "S must be at most 16");
  EXPECT_EQ(reason([](Problem& p) { p.N = 65; }), "N must be at most 64");
  EXPECT_EQ(reason([](Problem& p) { p.N = 64, p.D = 16384; }),
            "queries and two tokens' rows must fit the shared memory of eight CTAs");
  EXPECT_EQ(bulk_supports(problem(4, 8, 64, 2048), kA100).reason, "needs sm_90");
}

}  // namespace
}  // namespace attn::attnres_phase1_bwd
