// The contract: what a problem refuses, where its tensors lie, what its mean divides by.
#include "reference/colreduce/contract.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/host_case.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

std::string refusal(const Problem& problem) { return ColReduce::validate(problem).reason; }

TEST(Contract, AcceptsTheDefault) { EXPECT_TRUE(ColReduce::validate({})); }

TEST(Contract, RefusesSizesBelowOne) {
  EXPECT_EQ(refusal({.M = 0}), "M must be at least 1, not 0");
  EXPECT_EQ(refusal({.D = 0}), "D must be at least 1, not 0");
  EXPECT_EQ(refusal({.B = -3}), "B must be at least 1, not -3");
}

TEST(Contract, RefusesHeadsThatKeysDoNotDivide) {
  EXPECT_EQ(refusal({.H = 6, .H_kv = 4}), "H must be a multiple of H_kv, not 6 and 4");
  EXPECT_TRUE(ColReduce::validate({.H = 6, .H_kv = 3}));
}

TEST(Contract, RefusesStridesThatNoKernelCouldRead) {
  EXPECT_EQ(refusal({.M = 4, .D = 8, .q_strides = {64, 64, 16, 2}}),
            "q_strides must have a D stride of 1, not 2");
  EXPECT_EQ(refusal({.N = 4, .D = 8, .k_strides = {64, 64, -8, 1}}),
            "k_strides must not be negative");
  EXPECT_EQ(refusal({.H = 2, .M = 4, .D = 8, .q_strides = {64, 16, 8, 1}}),
            "q_strides must not make elements overlap (0 repeats an axis)");
  EXPECT_TRUE(ColReduce::validate({.B = 4, .H = 2, .N = 4, .D = 8, .k_strides = {0, 0, 8, 1}}));
}

TEST(Contract, RefusesShapesThatOverflow) {
  constexpr std::int64_t kBig = std::int64_t{1} << 40;
  EXPECT_EQ(refusal({.M = kBig, .N = kBig}), "the shape overflows 64-bit addresses");
  EXPECT_EQ(refusal({.B = kBig, .M = 1, .N = kBig / 2, .D = 64}),
            "the shape overflows 64-bit addresses");
  EXPECT_EQ(refusal({.H = std::numeric_limits<std::int64_t>::max(), .M = 1, .N = 1, .D = 1}),
            "the shape overflows 64-bit addresses");
}

TEST(Contract, RefusesAnOutputTypeThatIsNeitherFp32NorTheInputs) {
  EXPECT_EQ(refusal({.dtype = DType::kBF16, .out_dtype = DType::kF16}),
            "out_dtype must be f32 or the input type");
}

TEST(Contract, RefusesQueryRangesThatHoldNoQuery) {
  EXPECT_EQ(refusal({.M = 8, .query_begin = 8}),
            "query_begin must be at least -M and below M, not 8");
  EXPECT_EQ(refusal({.M = 8, .query_begin = -9}),
            "query_begin must be at least -M and below M, not -9");
  EXPECT_EQ(refusal({.M = 8, .query_end = 0}),
            "query_end must be -1 or lie between 1 and M, not 0");
  EXPECT_EQ(refusal({.M = 8, .query_end = 9}),
            "query_end must be -1 or lie between 1 and M, not 9");
  EXPECT_EQ(refusal({.M = 8, .query_end = -2}),
            "query_end must be -1 or lie between 1 and M, not -2");
  EXPECT_EQ(refusal({.M = 8, .query_begin = 5, .query_end = 5}),
            "query_begin must be below query_end, not 5 and 5");
  EXPECT_EQ(refusal({.M = 8, .query_begin = -2, .query_end = 3}),
            "query_begin must be below query_end, not 6 and 3");
  EXPECT_TRUE(ColReduce::validate({.M = 8, .query_begin = -8, .query_end = 1}));
}

TEST(Contract, RefusesWindowsThatReachToTheRight) {
  EXPECT_EQ(refusal({.window = -2}), "window must be -1 or at least 0, not -2");
  EXPECT_TRUE(ColReduce::validate({.window = 0}));
  const Problem wide{.M = 9, .N = 3, .window = std::numeric_limits<std::int64_t>::max()};
  EXPECT_TRUE(ColReduce::validate(wide));
  EXPECT_EQ(wide.attention_mask().key_begin(8), 0);
}

TEST(Contract, RefusesSoftCapsThatAreNoBound) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double softcap : {-1.0, kInfinity, kAuto, 0x1p-61, 0x1p61})
    EXPECT_EQ(refusal({.softcap = softcap}),
              "softcap must be 0 (off) or lie between 2^-60 and 2^60");
  EXPECT_TRUE(ColReduce::validate({.softcap = 50}));
}

TEST(Contract, RefusesTensorsThatAreNotTheProblems) {
  HostCase c({.H = 2, .M = 3, .N = 4, .D = 8, .lse = Lse::kIn});
  ColReduce::Tensors t = c.tensors();
  EXPECT_TRUE(ColReduce::validate(c.problem, t));
  t.lse.shape = {1, 2, 4, 1};
  EXPECT_EQ(ColReduce::validate(c.problem, t).reason,
            "lse must have the shape 1:2:3:1, not 1:2:4:1");
  t = c.tensors();
  t.lse.data = nullptr;
  EXPECT_EQ(ColReduce::validate(c.problem, t).reason, "lse must have data");
  t = c.tensors();
  t.k.dtype = DType::kBF16;
  EXPECT_EQ(ColReduce::validate(c.problem, t).reason, "k must be of type f16");
  t = c.tensors();
  t.q.strides[2] = 9;
  EXPECT_EQ(ColReduce::validate(c.problem, t).reason,
            "q must have the strides 48:24:8:1, not 48:24:9:1");
  c.set(c.tensors().lse, 0, 1, 2, 0, std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(ColReduce::validate(c.problem, c.tensors()).reason, "lse must not hold NaN");
}

TEST(Contract, QueryRangesCountFromEitherEnd) {
  const auto range = [](const Problem& p) {
    return std::pair(p.contributing().begin, p.contributing().end);
  };
  EXPECT_EQ(range({.M = 8}), std::pair(std::int64_t{0}, std::int64_t{8}));
  EXPECT_EQ(range({.M = 8, .query_begin = -3}), std::pair(std::int64_t{5}, std::int64_t{8}));
  EXPECT_EQ(range({.M = 8, .query_begin = 2, .query_end = 5}),
            std::pair(std::int64_t{2}, std::int64_t{5}));
}

/// Every layout gives every element an address of its own, inside the storage.
TEST(Contract, LayoutsAreDisjointAndInBounds) {
  for (const Layout layout : {Layout::kHeadMajor, Layout::kRowMajor, Layout::kFusedSlice}) {
    const Problem p{.B = 2, .H = 4, .H_kv = 2, .M = 3, .N = 5, .D = 7, .layout = layout};
    for (const TensorSpec& spec : ColReduce::tensor_specs(p)) {
      std::set<std::int64_t> seen;
      const TensorView view = spec.bind(nullptr);
      for (std::int64_t b = 0; b < spec.shape[0]; ++b)
        for (std::int64_t h = 0; h < spec.shape[1]; ++h)
          for (std::int64_t r = 0; r < spec.shape[2]; ++r)
            for (std::int64_t d = 0; d < spec.shape[3]; ++d) {
              const std::int64_t at = spec.offset_elements + view.offset(b, h, r, d);
              EXPECT_TRUE(at >= 0 && at < spec.storage_elements);
              EXPECT_TRUE(seen.insert(at).second);
            }
      EXPECT_EQ(static_cast<std::int64_t>(seen.size()), spec.elements());
    }
  }
}

TEST(Contract, FusedSliceKeepsKeysBehindQueries) {
  const Problem p{.H = 4, .H_kv = 2, .M = 3, .N = 3, .D = 8, .layout = Layout::kFusedSlice};
  const auto specs = ColReduce::tensor_specs(p);
  EXPECT_EQ(specs[1].offset_elements, 4 * 8);
  EXPECT_EQ(specs[1].strides[2], (4 + 2 * 2) * 8);
}

TEST(Contract, DivisorCountsContributingQueries) {
  Problem p{.M = 4, .N = 6, .reduction = Reduction::kMean, .mask = Mask::kCausal};
  EXPECT_EQ(p.divisor(0), 4);  // every query sees the first key
  EXPECT_EQ(p.divisor(2), 4);
  EXPECT_EQ(p.divisor(3), 3);
  EXPECT_EQ(p.divisor(5), 1);
  p.mean_over = MeanOver::kAll;
  EXPECT_EQ(p.divisor(5), 4);
  p.mask = Mask::kCausalTopLeft;
  p.mean_over = MeanOver::kVisible;
  EXPECT_EQ(p.divisor(5), 1);  // nobody sees key 5: the empty column is 0 / 1
  p.reduction = Reduction::kSum;
  EXPECT_EQ(p.divisor(3), 1);
  p = {.M = 4, .N = 6, .reduction = Reduction::kMean, .mask = Mask::kCausal, .query_begin = 2};
  EXPECT_EQ(p.divisor(0), 2);
  EXPECT_EQ(p.divisor(5), 1);
  p.query_end = 3;
  EXPECT_EQ(p.divisor(4), 1);
  EXPECT_EQ(p.divisor(5), 1) << "an empty column";
  p.mean_over = MeanOver::kAll;
  p.query_begin = 0;
  EXPECT_EQ(p.divisor(5), 3);
  p.H = 4;
  p.heads = Heads::kMean;
  EXPECT_EQ(p.divisor(5), 12) << "the heads of a mean over heads count too";
  p.reduction = Reduction::kMax;
  EXPECT_EQ(p.divisor(5), 4);
}

TEST(Contract, WorkCountsBytesOnce) {
  const Problem p{.B = 2, .H = 4, .H_kv = 2, .M = 8, .N = 16, .D = 32};
  EXPECT_EQ(ColReduce::work(p).bytes, 2 * (4 * 8 * 32 * 2 + 2 * 16 * 32 * 2 + 4 * 16 * 4));
}

TEST(Suites, EveryCaseIsValidAndReadmeHasItsCells) {
  for (const auto& suite : ColReduce::suites()) {
    EXPECT_FALSE(suite.cases.empty());
    for (const auto& one : suite.cases)
      EXPECT_TRUE(ColReduce::validate(one.problem)) << suite.name << refusal(one.problem);
    if (suite.name == "readme") {
      EXPECT_EQ(suite.cases.size(), 20u);
    }
  }
}

TEST(Contract, RefusesLengthsOutOfRange) {
  EXPECT_EQ(refusal({.B = 2, .M = 8, .q_len = {8}}),
            "q_len must have one length per batch, not 1 for B = 2");
  EXPECT_EQ(refusal({.B = 2, .M = 8, .q_len = {8, 9}}), "q_len must lie between 0 and M, not 9");
  EXPECT_EQ(refusal({.B = 2, .N = 8, .kv_len = {-1, 3}}),
            "kv_len must lie between 0 and N, not -1");
  EXPECT_TRUE(ColReduce::validate({.B = 2, .M = 8, .N = 8, .q_len = {0, 8}, .kv_len = {8, 0}}));
}

TEST(Contract, RefusesPrefixSumsThatPackNothing) {
  const auto packed = [](std::vector<std::int64_t> cu_q, std::vector<std::int64_t> cu_k) {
    return refusal({.M = 8, .N = 9, .cu_q = std::move(cu_q), .cu_k = std::move(cu_k)});
  };
  EXPECT_EQ(packed({0, 8}, {}), "cu_q and cu_k must have as many numbers, not 2 and 0");
  EXPECT_EQ(packed({0, 4, 8}, {0, 9}), "cu_q and cu_k must have as many numbers, not 3 and 2");
  EXPECT_EQ(packed({8}, {9}), "cu_q must begin with 0 and have one more number per sequence");
  EXPECT_EQ(packed({1, 8}, {0, 9}), "cu_q must begin with 0 and have one more number per sequence");
  EXPECT_EQ(packed({0, 5, 3, 8}, {0, 1, 2, 9}), "cu_q must never fall");
  EXPECT_EQ(packed({0, 4, 8}, {0, -1, 9}), "cu_k must never fall");
  EXPECT_EQ(packed({0, 7}, {0, 9}), "cu_q must end with M, not 7");
  EXPECT_EQ(packed({0, 8}, {0, 10}), "cu_k must end with N, not 10");
  EXPECT_EQ(packed({0, 8, 8}, {0, 0, 9}), "");
  EXPECT_EQ(refusal({.B = 2, .M = 8, .N = 9, .cu_q = {0, 8}, .cu_k = {0, 9}}),
            "B must be 1 where cu_q and cu_k pack sequences, not 2");
  EXPECT_EQ(refusal({.M = 8, .N = 9, .q_len = {8}, .cu_q = {0, 8}, .cu_k = {0, 9}}),
            "q_len and kv_len must be none where cu_q and cu_k pack sequences");
}

TEST(Contract, PartsOfAPackedProblemLieBehindEachOther) {
  const Problem p{.M = 8, .N = 9, .D = 4, .cu_q = {0, 5, 5, 8}, .cu_k = {0, 2, 6, 9}};
  const auto parts = ColReduce::parts(p);
  ASSERT_EQ(parts.size(), 2u) << "one has no query";
  EXPECT_EQ(parts[1].batch, 0);
  EXPECT_EQ(parts[1].q_first, 5);
  EXPECT_EQ(parts[1].k_first, 6);
  EXPECT_EQ(parts[1].problem.M, 3);
  EXPECT_EQ(ColReduce::part_of(p, 0, 1)->k_first, 0);
  EXPECT_FALSE(ColReduce::part_of(p, 0, 2).has_value());
  EXPECT_EQ(ColReduce::part_of(p, 0, 8)->k_first, 6);
  EXPECT_EQ(ColReduce::work(p).exponentials, 5 * 2 + 3 * 3);
}

TEST(Contract, PartsAreTheSequencesThatHaveSomething) {
  const Problem p{.B = 4,
                  .H = 2,
                  .M = 8,
                  .N = 6,
                  .D = 4,
                  .query_begin = -3,
                  .q_len = {8, 0, 2, 5},
                  .kv_len = {6, 6, 1, 0}};
  const auto parts = ColReduce::parts(p);
  ASSERT_EQ(parts.size(), 2u) << "one has no query, one no key";
  EXPECT_EQ(parts[0].problem.contributing().begin, 5);
  EXPECT_EQ(parts[1].batch, 2);
  EXPECT_EQ(parts[1].problem.M, 2);
  EXPECT_EQ(parts[1].problem.N, 1);
  EXPECT_EQ(parts[1].problem.contributing().begin, 0) << "of two queries the last three are both";
  const Work work = ColReduce::work(p);
  EXPECT_EQ(work.exponentials, 2 * (3 * 6 + 2 * 1));
  EXPECT_EQ(work.bytes, 2 * (3 + 6 + 2 + 1) * 4 * 2 + 4 * 2 * 6 * 4);
}

TEST(Contract, OutputsHaveOneHeadPerCombination) {
  const auto shape = [](Heads heads) {
    return ColReduce::tensor_specs({.B = 2, .H = 6, .H_kv = 3, .N = 5, .heads = heads})[2].shape;
  };
  EXPECT_EQ(shape(Heads::kEach), (Extents{2, 6, 5, 1}));
  EXPECT_EQ(shape(Heads::kMean), (Extents{2, 1, 5, 1}));
  EXPECT_EQ(shape(Heads::kGroup), (Extents{2, 3, 5, 1}));
}

/// Cells that somebody wants to see fast: where the published packages are slow or wrong.
TEST(Suites, ColsumAndModelsHoldWhatTheyPromise) {
  for (const auto& suite : ColReduce::suites()) {
    if (suite.name == "colsum") {
      EXPECT_EQ(suite.cases.size(), 25u);
      for (const auto& one : suite.cases) {
        EXPECT_EQ(one.problem.heads, Heads::kMean);
        EXPECT_EQ(one.problem.reduction, Reduction::kMean);
      }
    }
    if (suite.name != "models") continue;
    std::set<std::int64_t> depths, windows;
    for (const auto& one : suite.cases) {
      EXPECT_EQ(one.problem.dtype, DType::kBF16);
      depths.insert(one.problem.D);
      windows.insert(one.problem.query_begin);
    }
    EXPECT_EQ(depths, (std::set<std::int64_t>{64, 72, 80, 96, 128, 256}));
    EXPECT_EQ(windows, (std::set<std::int64_t>{-64, -32, 0}));
  }
}

TEST(Suites, SquareHasSquareCasesOnceEach) {
  std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, Mask>> seen;
  for (const auto& suite : ColReduce::suites()) {
    if (suite.name != "square") continue;
    for (const auto& [p, family] : suite.cases) {
      EXPECT_EQ(p.M, p.N);
      EXPECT_TRUE(seen.insert({p.B, p.H, p.M, p.D, p.mask}).second);
    }
  }
  EXPECT_EQ(seen.size(), 12u);
}

TEST(NumericsClasses, NamesSayWhichTypesScoresAndWeightsPass) {
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    const bool half = dtype != DType::kF32;
    EXPECT_EQ(class_name(NumericsClass::kFp64, dtype), "fp64");
    EXPECT_EQ(class_name(NumericsClass::kFp32, dtype), "fp32_P");
    EXPECT_EQ(class_name(NumericsClass::kHalfWeights, dtype), half ? "fp16_P" : "fp32_P");
  }
  EXPECT_EQ(class_name(NumericsClass::kStored, DType::kF16), "fp16_SP");
  EXPECT_EQ(class_name(NumericsClass::kStored, DType::kBF16), "bf16_SP");
  EXPECT_EQ(class_name(NumericsClass::kStored, DType::kF32), "fp32_P");
}

}  // namespace
}  // namespace attn
