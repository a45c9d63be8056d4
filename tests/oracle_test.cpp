// The fp64 oracle: known answers in closed form, an independent formula, and the GPU's version.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "harness/buffer.h"
#include "harness/environment.h"
#include "harness/gpu.h"
#include "reference/colreduce/random_suite.h"
#include "tests/direct_formula.h"
#include "tests/host_case.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

constexpr Mask kMasks[] = {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft};

/// Relative agreement that fp64 arithmetic in another order reaches.
constexpr double kFp64 = 1e-13;

void expect_close(double actual, double expected, const std::string& where) {
  EXPECT_LE(std::abs(actual - expected), kFp64 * std::abs(expected) + 1e-290) << where;
}

/// Element i of both oracles' answers. An lse is a logarithm: relative errors of a sum are absolute
/// errors of it, however near 0 it lies.
void expect_same_answer(const Problem& p, std::size_t i, double actual, double expected) {
  const bool is_lse = i >= static_cast<std::size_t>(p.B * p.out_heads() * p.N);
  if (!is_lse) return expect_close(actual, expected, std::to_string(i));
  if (actual == expected) return;  // infinities
  EXPECT_LE(std::abs(actual - expected), kFp64 * std::max(1.0, std::abs(expected))) << "lse " << i;
}

TEST(Oracle, EqualScoresShareTheWeightEqually) {
  for (const Mask mask : kMasks) {
    for (const auto& [M, N] : {std::pair{5, 7}, {7, 5}, {1, 4}, {4, 1}}) {
      HostCase c({.H = 2, .M = M, .N = N, .D = 8, .mask = mask}, InputFamily::kAllEqual);
      const auto reference = c.oracle();
      const AttentionMask visible = c.problem.attention_mask();
      for (std::int64_t n = 0; n < N; ++n) {
        double expected = 0;
        for (std::int64_t m = visible.query_begin(n); m < M; ++m)
          expected += 1.0 / static_cast<double>(visible.key_end(m));
        expect_close(reference.value[static_cast<std::size_t>(n)], expected, std::to_string(n));
      }
    }
  }
}

/// Row i is 64 e_{i mod D}: a query puts all its weight on the visible keys of its residue class.
TEST(Oracle, OneHotRowsPickTheirClass) {
  constexpr std::int64_t kD = 16;
  for (const Mask mask : kMasks) {
    HostCase c({.M = 41, .N = 37, .D = kD, .mask = mask}, InputFamily::kOneHot);
    const auto reference = c.oracle();
    const AttentionMask visible = c.problem.attention_mask();
    std::vector<double> expected(37);
    for (std::int64_t m = 0; m < 41; ++m) {
      std::vector<std::int64_t> same;
      for (std::int64_t n = m % kD; n < visible.key_end(m); n += kD) same.push_back(n);
      const std::int64_t all = visible.key_end(m);
      for (const std::int64_t n : same)
        expected[static_cast<std::size_t>(n)] += 1.0 / static_cast<double>(same.size());
      for (std::int64_t n = 0; same.empty() && n < all; ++n)
        expected[static_cast<std::size_t>(n)] += 1.0 / static_cast<double>(all);
    }
    for (std::size_t n = 0; n < 37; ++n) expect_close(reference.value[n], expected[n], "one_hot");
  }
}

void expect_direct(const Problem& p) {
  HostCase c(p);
  const auto reference = c.oracle();
  const std::vector<double> expected = DirectFormula(c).run();
  ASSERT_EQ(reference.value.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    expect_same_answer(p, i, reference.value[i], expected[i]);
}

TEST(Oracle, AgreesWithTheDirectFormula) {
  for (const Mask mask : kMasks) {
    for (const Reduction reduction : {Reduction::kSum, Reduction::kMean, Reduction::kMax}) {
      expect_direct({.B = 2,
                     .H = 4,
                     .H_kv = 2,
                     .M = 11,
                     .N = 13,
                     .D = 6,
                     .dtype = DType::kF32,
                     .reduction = reduction,
                     .mask = mask,
                     .layout = Layout::kRowMajor});
      for (const MeanOver over : {MeanOver::kVisible, MeanOver::kAll}) {
        expect_direct({.M = 13,
                       .N = 9,
                       .D = 5,
                       .reduction = reduction,
                       .mask = mask,
                       .mean_over = over,
                       .query_begin = -6,
                       .query_end = 12});
        for (const std::int64_t window : {0, 3, 20}) {
          expect_direct({.M = 7,
                         .N = 12,
                         .D = 5,
                         .reduction = reduction,
                         .mask = mask,
                         .mean_over = over,
                         .query_begin = 1,
                         .window = window});
          expect_direct({.M = 12,
                         .N = 7,
                         .D = 5,
                         .reduction = reduction,
                         .mask = mask,
                         .mean_over = over,
                         .window = window});
        }
      }
    }
  }
}

TEST(Oracle, CappedScoresAgreeWithTheDirectFormula) {
  for (const double softcap : {0.01, 0.7, 3.0, 50.0}) {
    for (const double scale : {kAuto, -2.0})
      expect_direct({.H = 2, .M = 9, .N = 17, .D = 6, .scale = scale, .softcap = softcap});
  }
}

TEST(Oracle, HeadsAreCombinedAfterTheQueries) {
  for (std::size_t heads = 0; heads < kHeadsNames.size(); ++heads) {
    for (const Reduction reduction : {Reduction::kSum, Reduction::kMean, Reduction::kMax}) {
      for (const Lse lse : {Lse::kNone, Lse::kOut})
        expect_direct({.B = 2,
                       .H = 6,
                       .H_kv = 2,
                       .M = 7,
                       .N = 9,
                       .D = 4,
                       .reduction = reduction,
                       .mask = Mask::kCausal,
                       .lse = lse,
                       .heads = static_cast<Heads>(heads)});
    }
  }
}

TEST(Oracle, PaddedBatchesAgreeWithTheDirectFormula) {
  for (const Mask mask : kMasks) {
    for (const Lse lse : {Lse::kNone, Lse::kIn, Lse::kOut}) {
      for (const MeanOver over : {MeanOver::kVisible, MeanOver::kAll}) {
        Problem p{.B = 4,
                  .H = 4,
                  .H_kv = 2,
                  .M = 7,
                  .N = 9,
                  .D = 4,
                  .reduction = Reduction::kMean,
                  .mask = mask,
                  .mean_over = over,
                  .query_begin = -5,
                  .window = 6,
                  .lse = lse,
                  .heads = Heads::kGroup,
                  .q_len = {7, 3, 0, 5},
                  .kv_len = {9, 0, 4, 2}};
        expect_direct(p);
        p.kv_len.clear();
        p.query_begin = 0;
        p.query_end = 4;
        expect_direct(p);
      }
    }
  }
}

TEST(Oracle, PackedBatchesAgreeWithTheDirectFormula) {
  for (const Mask mask : kMasks) {
    for (const Lse lse : {Lse::kNone, Lse::kIn, Lse::kOut}) {
      for (const Layout layout : {Layout::kHeadMajor, Layout::kRowMajor}) {
        expect_direct({.H = 4,
                       .H_kv = 2,
                       .M = 19,
                       .N = 23,
                       .D = 4,
                       .reduction = Reduction::kMean,
                       .mask = mask,
                       .layout = layout,
                       .query_begin = -6,
                       .window = 9,
                       .lse = lse,
                       .heads = Heads::kMean,
                       .cu_q = {0, 7, 7, 10, 18, 19},
                       .cu_k = {0, 3, 9, 9, 22, 23}});
      }
    }
  }
}

TEST(Oracle, GivenNormalisersNeedNotBeTheRowsOwn) {
  HostCase c({.H = 2, .M = 6, .N = 5, .D = 4, .mask = Mask::kCausal, .lse = Lse::kIn});
  const TensorView lse = c.tensors().lse;
  for (std::int64_t m = 0; m < 6; ++m) {
    const float own = c.get(lse, 0, 1, m, 0);
    EXPECT_EQ(std::isinf(own), m == 0) << "query 0 sees no key";
    c.set(lse, 0, 1, m, 0, m % 2 ? own + 0.5f : INFINITY);
  }
  const auto reference = c.oracle();
  const std::vector<double> expected = DirectFormula(c).run();
  for (std::size_t i = 0; i < expected.size(); ++i)
    expect_close(reference.value[i], expected[i], "given " + std::to_string(i));
  c.set(lse, 0, 0, 3, 0, NAN);  // query 3 sees keys 0 to 2
  const auto poisoned = c.oracle();
  for (std::size_t n = 0; n < 5; ++n) EXPECT_EQ(std::isnan(poisoned.value[n]), n <= 2) << n;
}

TEST(Oracle, NanPoisonsItsRowAndNothingMore) {
  HostCase c({.H = 2, .M = 4, .N = 6, .D = 8, .dtype = DType::kF32, .mask = Mask::kCausal});
  const auto t = c.tensors();
  c.set(t.q, 0, 1, 1, 0, NAN);  // head 1, query 1 sees keys 0..3
  const auto reference = c.oracle();
  for (std::size_t n = 0; n < 6; ++n) {
    EXPECT_FALSE(std::isnan(reference.value[n]));
    EXPECT_EQ(std::isnan(reference.value[6 + n]), n <= 3) << n;
  }
}

TEST(Tolerance, GrowsFromFp64OverFp32ToStoredScores) {
  HostCase c({.M = 33, .N = 65, .D = 64});
  const auto reference = c.oracle();
  for (std::size_t i = 0; i < c.outputs(); ++i) {
    const double fp64 = ColReduce::tolerance(c.problem, reference, i, NumericsClass::kFp64);
    const double fp32 = ColReduce::tolerance(c.problem, reference, i, NumericsClass::kFp32);
    const double half = ColReduce::tolerance(c.problem, reference, i, NumericsClass::kHalfWeights);
    const double stored = ColReduce::tolerance(c.problem, reference, i, NumericsClass::kStored);
    EXPECT_LT(0, fp64);
    EXPECT_LT(fp64, fp32);
    EXPECT_LT(fp32, half);
    EXPECT_LT(half, stored);
    EXPECT_LT(fp32, reference.value[i] * 0x1p-12) << "an fp32 kernel may not round to 16 bits";
  }
}

/// What the column reduction becomes where the exponentials of each row, 2^8 at its maximum, pass
/// through the type `weights`; everything else is fp64. One head, no batch.
std::vector<double> with_rounded_weights(HostCase& c, DType weights) {
  const Problem& p = c.problem;
  const auto t = c.tensors();
  const AttentionMask mask = p.attention_mask();
  std::vector<double> out(c.outputs());
  for (std::int64_t m = 0; m < p.M; ++m) {
    std::vector<double> scores(static_cast<std::size_t>(mask.key_end(m)));
    for (std::size_t n = 0; n < scores.size(); ++n) {
      const auto key = static_cast<std::int64_t>(n);
      for (std::int64_t d = 0; d < p.D; ++d)
        scores[n] += p.scale_value() * c.get(t.q, 0, 0, m, d) * c.get(t.k, 0, 0, key, d);
    }
    if (scores.empty()) continue;
    const double row_max = *std::max_element(scores.begin(), scores.end());
    double row_sum = 0;
    for (const double s : scores) row_sum += 0x1p8 * std::exp(s - row_max);
    for (std::size_t n = 0; n < scores.size(); ++n) {
      std::uint32_t rounded = 0;
      store_element(&rounded, weights, 0,
                    static_cast<float>(0x1p8 * std::exp(scores[n] - row_max)));
      const double weight = load_element(&rounded, weights, 0) / row_sum;
      out[n] = p.reduction == Reduction::kMax ? std::max(out[n], weight) : out[n] + weight;
    }
  }
  for (std::size_t n = 0; n < out.size(); ++n) out[n] /= p.divisor(static_cast<std::int64_t>(n));
  return out;
}

/// Largest error over its tolerance under a declared class, of weights rounded to a type.
double error_of_rounded_weights(HostCase& c, DType weights, NumericsClass declared) {
  const auto reference = c.oracle();
  const std::vector<double> out = with_rounded_weights(c, weights);
  double worst = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double error = std::abs(out[i] - reference.value[i]);
    const double allowed = ColReduce::tolerance(c.problem, reference, i, declared);
    worst = std::max(worst, error / allowed);
  }
  return worst;
}

TEST(Tolerance, WeightsInFp16PassAsFp16) {
  double worst = 0;
  for (std::size_t family = 0; family < kInputFamilyNames.size(); ++family) {
    for (const Mask mask : kMasks) {
      for (const Reduction reduction : {Reduction::kSum, Reduction::kMean, Reduction::kMax}) {
        for (const DType dtype : {DType::kF16, DType::kBF16}) {
          for (const std::int64_t M : {1, 5, 131}) {
            const Problem p{
                .M = M, .N = 259, .D = 64, .dtype = dtype, .reduction = reduction, .mask = mask};
            HostCase c(p, static_cast<InputFamily>(family));
            const double error =
                error_of_rounded_weights(c, DType::kF16, NumericsClass::kHalfWeights);
            EXPECT_LE(error, 1) << kInputFamilyNames[family] << ", M " << M;
            worst = std::max(worst, error);
          }
        }
      }
    }
  }
  EXPECT_GE(worst, 0.3) << "the bound is loose";
}

TEST(Tolerance, RoundedWeightsMustBeDeclared) {
  for (const Reduction reduction : {Reduction::kSum, Reduction::kMean, Reduction::kMax}) {
    for (const std::int64_t M : {1, 5, 64}) {
      HostCase c({.M = M, .N = 259, .D = 64, .reduction = reduction});
      const auto error = [&](DType weights, NumericsClass declared) {
        return error_of_rounded_weights(c, weights, declared);
      };
      EXPECT_GT(error(DType::kBF16, NumericsClass::kFp32), 1) << M;
      EXPECT_GT(error(DType::kBF16, NumericsClass::kHalfWeights), 1) << M;
      // Of many queries the roundings to fp16 average out below the bound of fp32 products.
      if (M <= 5) {
        EXPECT_GT(error(DType::kF16, NumericsClass::kFp32), 1) << M;
      }
    }
  }
}

TEST(Tolerance, EqualWeightsRoundAlike) {
  HostCase c({.M = 131, .N = 103, .D = 64, .dtype = DType::kF16, .scale = 0});
  const auto reference = c.oracle();
  std::uint32_t stored = 0;
  store_element(&stored, DType::kF16, 0, 1.0f / 103);
  const double error = std::abs(131 * load_element(&stored, DType::kF16, 0) - 131.0 / 103);
  const auto allowed = [&](NumericsClass declared) {
    return ColReduce::tolerance(c.problem, reference, 0, declared);
  };
  EXPECT_GT(error, allowed(NumericsClass::kHalfWeights));  // as of roundings that average out
  EXPECT_LE(error, allowed(NumericsClass::kStored));
  EXPECT_GT(2 * error, allowed(NumericsClass::kStored));
}

TEST(Oracle, RandomProblemsAgreeWithTheDirectFormula) {
  const Suite<Problem> suite = random_suite();
  for (std::size_t i = 0; i < 5000; i += 7) {
    if (ColReduce::work(suite.cases[i].problem).mma_flops < 1e5)
      expect_direct(suite.cases[i].problem);
  }
}

/// Both oracles, on the same bits: the GPU's answers for shapes that the CPU cannot reach.
TEST(Oracle, CpuAndGpuAgree) {
  std::string why;
  if (!gpu::find(why)) GTEST_SKIP() << "no GPU: " << why;
  for (const Mask mask : kMasks) {
    for (const Reduction reduction : {Reduction::kSum, Reduction::kMean, Reduction::kMax}) {
      for (const Problem& shape :
           {Problem{.B = 2, .H = 6, .H_kv = 2, .M = 131, .N = 1027, .D = 64},
            Problem{.H = 3,
            .M = 257,
            .N = 129,
            .D = 100,
            .dtype = DType::kF32,
            .layout = Layout::kFusedSlice},
            Problem{.H = 2, .M = 300, .N = 131, .D = 40, .query_begin = 70, .query_end = 201},
            Problem{.M = 300, .N = 431, .D = 40, .window = 100, .softcap = 5},
            Problem{.H = 2, .M = 150, .N = 99, .D = 40, .query_begin = 40, .lse = Lse::kIn},
            Problem{.H = 2,
            .M = 150,
            .N = 99,
            .D = 40,
            .query_end = 140,
            .lse = Lse::kOut,
            .heads = Heads::kMax},
            Problem{.B = 2, .H = 6, .H_kv = 2, .M = 65, .N = 70, .D = 24, .heads = Heads::kGroup},
            Problem{.B = 3,
            .H = 2,
            .M = 90,
            .N = 131,
            .D = 16,
            .lse = Lse::kOut,
            .q_len = {90, 0, 33},
            .kv_len = {5, 131, 70}},
            Problem{.H = 2,
            .M = 90,
            .N = 131,
            .D = 16,
            .lse = Lse::kIn,
            .heads = Heads::kSum,
            .cu_q = {0, 90, 90},
            .cu_k = {0, 65, 131}},
            Problem{.B = 300, .H = 250, .M = 2, .N = 3, .D = 5, .dtype = DType::kBF16}}) {
        Problem p = shape;
        p.mask = mask;
        p.reduction = reduction;
        HostCase c(p, InputFamily::kPeaked, 9);
        std::vector<Buffer> buffers;
        std::vector<void*> pointers;
        for (const TensorSpec& spec : ColReduce::tensor_specs(p)) {
          buffers.emplace_back(MemorySpace::kDevice, spec.storage_bytes());
          pointers.push_back(buffers.back().data());
          if (spec.role == TensorRole::kQuery || spec.role == TensorRole::kKey)
            gpu::fill_input(spec, pointers.back(), InputFamily::kPeaked,
                            tensor_key(9, "", spec.name));
        }
        ColReduce::write_given_on_device(p, ColReduce::bind(p, pointers));
        for (std::size_t i = 3; i < pointers.size(); ++i) {  // the CPU's may be an ulp away
          if (ColReduce::tensor_specs(p)[i].role == TensorRole::kGiven)
            c.storage(i) = buffers[i].to_host();
        }
        const auto cpu = c.oracle();
        const auto gpu = ColReduce::oracle_on_device(p, ColReduce::bind(p, pointers));
        ASSERT_TRUE(gpu.has_value());
        ASSERT_EQ(gpu->value.size(), cpu.value.size());
        for (std::size_t i = 0; i < cpu.value.size(); ++i) {
          expect_same_answer(p, i, gpu->value[i], cpu.value[i]);
          // Parts of the bound are kept in fp32.
          ASSERT_LE(std::abs(gpu->drift[i] - cpu.drift[i]), 0x1p-20f * cpu.drift[i]);
          ASSERT_LE(std::abs(gpu->stored[i] - cpu.stored[i]), 0x1p-20f * cpu.stored[i]);
          ASSERT_LE(std::abs(gpu->square[i] - cpu.square[i]), 0x1p-20f * cpu.square[i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace attn
