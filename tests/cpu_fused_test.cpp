// What is special to cpu_fused: its exponential and widening, every instruction set that this
// machine has, the edges of its tiles, and bits that do not depend on threads or schedule.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "harness/core/dtype.h"
#include "impls/colreduce/cpu_fused_tiles.h"
#include "impls/common/cpu_simd.h"
#include "tests/host_case.h"

namespace attn {
namespace {

using colreduce::HeadRows;
using colreduce::KeyRange;
using colreduce::RowBlock;
using colreduce::TileKernels;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The last of four lanes after `function` at `value`.
template <class Function>
float lane_of(float value, Function function) {
  simd::Vec<4>::Float x = {value, value, value, value};
  function(x);
  float lanes[4];
  simd::Vec<4>::store(lanes, x);
  return lanes[3];
}

float exp2_of(float value) {
  return lane_of(value, [](simd::Vec<4>::Float& x) { simd::exp2_nonpositive<4>(x); });
}

TEST(CpuFusedExp2, IsWithinTwoUlpOverTheWholeRange) {
  double worst = 0;
  const std::uint32_t last = std::bit_cast<std::uint32_t>(-126.0f);
  for (std::uint32_t bits = 0x80000000u; bits <= last; bits += 1009) {
    const float x = std::bit_cast<float>(bits);
    const double exact = std::exp2(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(exp2_of(x) - exact) / ulp);
  }
  EXPECT_LE(worst, 2);
  EXPECT_GT(worst, 0.5) << "no rounding error at all: the sweep has not run";
}

TEST(CpuFusedExp2, IsExactAtIntegersAndKeepsWhatIsNotFinite) {
  for (int n = 0; n <= 126; ++n) EXPECT_EQ(exp2_of(static_cast<float>(-n)), std::ldexp(1.0f, -n));
  EXPECT_EQ(exp2_of(-0.0f), 1.0f);
  for (const float x : {-126.5f, -150.0f, -1e30f, -kInfinity}) EXPECT_EQ(exp2_of(x), 0.0f) << x;
  EXPECT_TRUE(std::isnan(exp2_of(std::numeric_limits<float>::quiet_NaN())));
}

float tanh_of(float value) {
  return lane_of(value, [](simd::Vec<4>::Float& x) { simd::tanh<4>(x); });
}

TEST(CpuFusedTanh, IsWithinThreeUlpOverTheWholeRange) {
  double worst = 0;
  const std::uint32_t last = std::bit_cast<std::uint32_t>(12.0f);
  for (std::uint32_t bits = std::bit_cast<std::uint32_t>(0x1p-40f); bits <= last; bits += 1009) {
    const float x = std::bit_cast<float>(bits);
    const double exact = std::tanh(static_cast<double>(x));
    const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(tanh_of(x) - exact) / ulp);
    ASSERT_EQ(tanh_of(-x), -tanh_of(x));
  }
  EXPECT_LE(worst, 3);
  EXPECT_GT(worst, 0.5) << "no rounding error at all: the sweep has not run";
}

TEST(CpuFusedTanh, KeepsWhatIsNotFinite) {
  EXPECT_EQ(tanh_of(0.0f), 0.0f);
  EXPECT_EQ(tanh_of(kInfinity), 1.0f);
  EXPECT_EQ(tanh_of(-kInfinity), -1.0f);
  EXPECT_TRUE(std::isnan(tanh_of(std::numeric_limits<float>::quiet_NaN())));
}

TEST(CpuFusedTiles, PackingIsExactForEveryBitPattern) {
  // 256 rows of 256 elements hold all patterns of 16 bits; 251 of them leave a tail in every width.
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  std::vector<float> packed(std::size_t{colreduce::kKeyTile} * colreduce::kKeyStride);
  for (const TileKernels& kernels : colreduce::available_kernels()) {
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      const HeadRows rows{reinterpret_cast<const char*>(all.data()), dtype, 256};
      for (const int depth : {256, 251}) {
        for (std::int64_t row = 0; row < 256; ++row) {
          kernels.pack_keys({row, 1}, rows, 0, depth, packed.data());
          for (int d = 0; d < depth; ++d)
            ASSERT_EQ(std::bit_cast<std::uint32_t>(packed[static_cast<std::size_t>(d)]),
                      std::bit_cast<std::uint32_t>(load_element(all.data(), dtype, row * 256 + d)))
                << kernels.instructions << ' ' << row * 256 + d;
        }
      }
    }
  }
}

/// Weights of one row block under the causal diagonal, with plain loops in fp64.
std::vector<double> plain_columns(
    const std::vector<float>& q, const std::vector<float>& k, int D, const RowBlock& block, int N) {
  std::vector<double> columns(static_cast<std::size_t>(N));
  for (int r = 0; r < block.rows; ++r) {
    const std::int64_t m = block.m0 + r;
    std::vector<double> weights(static_cast<std::size_t>(block.mask.key_end(m)));
    double sum = 0;
    for (std::size_t n = 0; n < weights.size(); ++n) {
      double s = 0;
      for (int d = 0; d < D; ++d)
        s += double{q[static_cast<std::size_t>(m * D + d)]} *
             k[n * static_cast<std::size_t>(D) + static_cast<std::size_t>(d)];
      weights[n] = std::exp2(0.25 * s);
      sum += weights[n];
    }
    for (std::size_t n = 0; n < weights.size(); ++n) columns[n] += weights[n] / sum;
  }
  return columns;
}

/// The same through one table of kernels, tile by tile.
std::vector<float> tiled_columns(const TileKernels& kernels,
                                 const std::vector<float>& q,
                                 const std::vector<float>& k,
                                 int D,
                                 const RowBlock& block,
                                 int N) {
  using colreduce::kKeyStride;
  using colreduce::kKeyTile;
  const auto floats = [](const std::vector<float>& v, int stride) {
    return HeadRows{reinterpret_cast<const char*>(v.data()), DType::kF32, stride};
  };
  std::vector<float> packed_q(static_cast<std::size_t>(block.stride * D));
  std::vector<float> packed_k(static_cast<std::size_t>(kKeyTile * kKeyStride));
  std::vector<float> s(static_cast<std::size_t>((N + kKeyTile) * block.stride));
  const auto rows = static_cast<std::size_t>(block.stride);
  std::vector<float> row_max(rows, -kInfinity);
  std::vector<float> row_sum(rows);
  kernels.pack_queries(block, floats(q, D), 0, D, packed_q.data());
  for (int n = 0; n < N; n += kKeyTile) {
    const KeyRange tile{n, std::min(N - n, kKeyTile)};
    kernels.pack_keys(tile, floats(k, D), 0, D, packed_k.data());
    float* scores = s.data() + n * block.stride;
    kernels.score(block, tile, packed_q.data(), packed_k.data(), D, false, 0.25f, scores);
    kernels.find_max(block, tile, scores, row_max.data());
  }
  const KeyRange all{0, N};
  kernels.exponentiate(block, all, row_max.data(), s.data(), row_sum.data());
  for (float& sum : row_sum) sum = sum == 0 ? 0 : 1 / sum;
  std::vector<float> columns(static_cast<std::size_t>(N));
  kernels.reduce(block, all, s.data(), row_sum.data(), false, columns.data());
  return columns;
}

TEST(CpuFusedTiles, EveryInstructionSetOfThisMachineAgreesWithPlainLoops) {
  constexpr int kM = 70, kN = 101, kD = 37;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> q(kM * kD), k(kN * kD);
  for (float& x : q) x = normal(random);
  for (float& x : k) x = normal(random);
  for (const TileKernels& kernels : colreduce::available_kernels()) {
    for (const Mask mask : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
      const RowBlock block{AttentionMask::make(mask, kM, kN), 32, 23, 32};
      const std::vector<double> expected = plain_columns(q, k, kD, block, kN);
      const std::vector<float> got = tiled_columns(kernels, q, k, kD, block, kN);
      for (std::size_t n = 0; n < kN; ++n)
        EXPECT_LE(std::abs(got[n] - expected[n]), 0x1p-18 * expected[n])
            << kernels.instructions << ' ' << kMaskNames[static_cast<std::size_t>(mask)] << ' '
            << n;
    }
  }
}

const Backend<ColReduce>& cpu_fused() {
  for (const auto& slot : ColReduce::backends())
    if (slot.id == "cpu_fused") return *slot.backend;
  throw std::logic_error("cpu_fused is not in the list");
}

/// The bytes that cpu_fused writes with `threads` threads; `note` says which schedule it took.
std::vector<std::byte> run(HostCase& c, int threads, std::string* note = nullptr) {
  DeviceInfo device;
  device.threads = threads;
  const std::size_t bytes = cpu_fused().workspace_bytes(c.problem, device);
  EXPECT_LE(bytes, static_cast<std::size_t>(8 * c.problem.B * c.problem.H * c.problem.M));
  std::vector<float> workspace(bytes / sizeof(float), std::numeric_limits<float>::quiet_NaN());
  const Launch launch = cpu_fused().plan(c.problem, c.tensors(), {workspace.data(), bytes}, device);
  if (note) *note = launch.note;
  std::fill(c.storage(2).begin(), c.storage(2).end(), std::byte{0xff});
  launch.enqueue({});
  return c.storage(2);
}

TEST(CpuFused, BitsDependOnNeitherThreadsNorSchedule) {
  const ColReduce::Problem problems[] = {
      {.H = 2, .M = 150, .N = 4300, .D = 24, .mask = Mask::kCausal},
      {.H = 3, .M = 200, .N = 700, .D = 40, .dtype = DType::kF32, .reduction = Reduction::kMean},
      {.B = 2, .H = 2, .H_kv = 1, .M = 90, .N = 1500, .D = 16, .reduction = Reduction::kMax}};
  for (const ColReduce::Problem& problem : problems) {
    HostCase c(problem);
    std::string one_thread, many_threads;
    const std::vector<std::byte> expected = run(c, 1, &one_thread);
    for (const int threads : {2, 3, 7, 64}) EXPECT_EQ(run(c, threads, &many_threads), expected);
    EXPECT_NE(one_thread, many_threads) << "both schedules must have run";
  }
}

TEST(CpuFused, EdgesOfTilesAreRight) {
  const std::int64_t shapes[][3] = {{15, 47, 1},   {16, 48, 255},  {17, 49, 256}, {63, 5, 257},
                                    {64, 6, 512},  {65, 7, 513},   {64, 1056, 8}, {64, 1057, 8},
                                    {33, 2113, 4}, {16, 4224, 4},  {16, 4225, 4}, {100, 4230, 12},
                                    {1, 1, 300},   {130, 240, 24}, {130, 241, 24}};
  for (const auto& [M, N, D] : shapes) {
    for (const Mask mask : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
      for (const DType out : {DType::kF32, DType::kF16}) {
        HostCase c({.M = M, .N = N, .D = D, .mask = mask, .out_dtype = out});
        const ColReduce::Reference reference = c.oracle();
        const std::vector<std::byte> bytes = run(c, 2);
        for (std::size_t i = 0; i < c.outputs(); ++i) {
          const double got = load_element(bytes.data(), out, static_cast<std::int64_t>(i));
          ASSERT_LE(std::abs(got - reference.value[i]),
                    ColReduce::tolerance(c.problem, reference, i, NumericsClass::kFp32))
              << M << 'x' << N << 'x' << D << ' ' << kMaskNames[static_cast<std::size_t>(mask)]
              << " key " << i;
        }
      }
    }
  }
}

TEST(CpuFused, PoisonStaysWithTheRowsThatTouchIt) {
  // Query 20 sees keys 0 to 20: they become NaN, in both schedules, for sums and maxima.
  for (const Reduction reduction : {Reduction::kSum, Reduction::kMax}) {
    for (const float poison : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
      HostCase c({.M = 70,
                  .N = 70,
                  .D = 8,
                  .dtype = DType::kF32,
                  .reduction = reduction,
                  .mask = Mask::kCausal});
      c.set(c.tensors().q, 0, 0, 20, 3, poison);
      for (const int threads : {1, 5}) {
        const std::vector<std::byte> bytes = run(c, threads);
        for (std::int64_t n = 0; n < 70; ++n)
          EXPECT_EQ(std::isnan(load_element(bytes.data(), DType::kF32, n)), n <= 20) << n;
      }
    }
  }
}

TEST(CpuFused, KeysOfMinusInfinityWeighNothing) {
  HostCase c({.M = 40, .N = 60, .D = 1, .dtype = DType::kF32});
  for (std::int64_t m = 0; m < 40; ++m) c.set(c.tensors().q, 0, 0, m, 0, 1.0f);
  for (std::int64_t n = 0; n < 60; ++n) c.set(c.tensors().k, 0, 0, n, 0, n < 50 ? -kInfinity : 0);
  for (const int threads : {1, 5}) {
    const std::vector<std::byte> bytes = run(c, threads);
    for (std::int64_t n = 0; n < 60; ++n)
      EXPECT_EQ(load_element(bytes.data(), DType::kF32, n), n < 50 ? 0 : 40 * 0.1f) << n;
  }
}

}  // namespace
}  // namespace attn
