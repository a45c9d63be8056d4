// The small device helpers of impls/common against the host's definitions. Skips without a GPU.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "harness/core/cuda_check.h"
#include "harness/core/dtype.h"
#include "impls/common/online_softmax.cuh"
#include "impls/common/row_softmax.cuh"
#include "impls/common/vector_io.cuh"
#include "impls/common/warp_reduce.cuh"
#include "tests/device_vector.cuh"

namespace attn {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr double kFp32Roundoff = 0x1p-24;

class CommonDevice : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
  }
};

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// Values of every magnitude, rounding ties, subnormals, overflow, infinities and signed zeros.
std::vector<float> awkward_values() {
  std::vector<float> values = {0.0f,        -0.0f,      1.0f,      -1.0f,          65504.0f,
                               65520.0f,    kInf,       -kInf,     0x1p-24f,       0x1p-25f,
                               0x1.8p-25f,  0x1p-14f,   0x1p-130f, 1.00048828125f, 1.00146484375f,
                               1.00390625f, 1.01171875f};
  std::uint32_t state = 1;
  while (values.size() < 256) {
    state = state * 1664525u + 1013904223u;
    const float unit = static_cast<float>(state >> 8) * 0x1p-23f - 1;
    values.push_back(std::ldexp(unit, static_cast<int>(state % 40) - 24));
  }
  return values;
}

constexpr DType kDTypes[] = {DType::kF16, DType::kBF16, DType::kF32};

__global__ void round_all(const float* in, void* out, DType dtype) {
  store_rounded(out, dtype, threadIdx.x, in[threadIdx.x]);
}

template <class T>
__global__ void copy_vectors(const float* in, T* rounded, float* back) {
  constexpr int kWidth = kVectorElements<T>;
  const int first = static_cast<int>(threadIdx.x) * kWidth;
  float x[kWidth];
  for (int i = 0; i < kWidth; ++i) x[i] = in[first + i];
  store_vector(rounded + first, x);
  load_vector(rounded + first, x);
  for (int i = 0; i < kWidth; ++i) back[first + i] = x[i];
}

TEST_F(CommonDevice, RoundsAsTheHostDoes) {
  const std::vector<float> values = awkward_values();
  const DeviceVector<float> in(values);
  for (const DType dtype : kDTypes) {
    with_element_type(dtype, [&]<class T>(std::type_identity<T>) {
      const std::vector<float> zeros(values.size());
      const DeviceVector<float> single(zeros), vectors(zeros), back(zeros);
      const int threads = static_cast<int>(values.size()) / kVectorElements<T>;
      const int all = static_cast<int>(values.size());
      round_all<<<1, all>>>(in.get(), single.get(), dtype);
      CUDA_CHECK_LAUNCH();
      copy_vectors<T><<<1, threads>>>(in.get(), reinterpret_cast<T*>(vectors.get()), back.get());
      CUDA_CHECK_LAUNCH();
      const std::vector<float> singles = single.host();
      const std::vector<float> read = back.host();
      for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint32_t expected = 0;
        store_element(&expected, dtype, 0, values[i]);
        const float exact = load_element(&expected, dtype, 0);
        const auto at = static_cast<std::int64_t>(i);
        EXPECT_TRUE(same_bits(load_element(singles.data(), dtype, at), exact)) << values[i];
        EXPECT_TRUE(same_bits(read[i], exact)) << values[i];
      }
    });
  }
}

/// Thread t copies a prefix of t - 1 elements.
template <class T>
__global__ void copy_prefixes(const T* in, T* out, float* read) {
  constexpr int kWidth = kVectorElements<T>;
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t counts[1] = {thread - 1};
  float x[1][kWidth];
  load_prefixes(in + thread * kWidth, 0, counts, -7.0f, x);
  for (int i = 0; i < kWidth; ++i) read[thread * kWidth + i] = x[0][i];
  store_prefix(out + thread * kWidth, counts[0], x[0]);
}

TEST_F(CommonDevice, PrefixesStopAtTheirEnd) {
  for (const DType dtype : kDTypes) {
    with_element_type(dtype, [&]<class T>(std::type_identity<T>) {
      constexpr int kWidth = kVectorElements<T>;
      constexpr int kThreads = kWidth + 4;  // counts -1 .. kWidth + 2
      std::vector<float> source(kThreads * kWidth), target(kThreads * kWidth);
      for (int i = 0; i < kThreads * kWidth; ++i) {
        store_element(source.data(), dtype, i, static_cast<float>(i + 1));
        store_element(target.data(), dtype, i, -1.0f);
      }
      const DeviceVector<float> in(source), out(target), read(source);
      copy_prefixes<T><<<1, kThreads>>>(reinterpret_cast<const T*>(in.get()),
                                        reinterpret_cast<T*>(out.get()), read.get());
      CUDA_CHECK_LAUNCH();
      const std::vector<float> written = out.host();
      const std::vector<float> values = read.host();
      for (int i = 0; i < kThreads * kWidth; ++i) {
        const bool inside = i % kWidth < i / kWidth - 1;
        const auto at = static_cast<std::size_t>(i);
        EXPECT_EQ(values[at], inside ? static_cast<float>(i + 1) : -7.0f);
        EXPECT_EQ(load_element(written.data(), dtype, i),
                  inside ? static_cast<float>(i + 1) : -1.0f);
      }
    });
  }
}

constexpr int kReduceThreads = 128;

template <int kLanes>
__global__ void reduce_lanes(const float* in, float* sums, float* maxima) {
  sums[threadIdx.x] = warp_reduce<kLanes>(in[threadIdx.x], Sum{});
  maxima[threadIdx.x] = warp_reduce<kLanes>(in[threadIdx.x], MaxOrNan{});
}

__global__ void reduce_cta(const float* in, float* sums, float* maxima) {
  __shared__ float scratch[kReduceThreads / 32];
  const int thread = static_cast<int>(threadIdx.x);
  sums[thread] = cta_reduce<kReduceThreads / 32>(in[thread], Sum{}, scratch, thread);
  maxima[thread] = cta_reduce<kReduceThreads / 32>(in[thread], MaxOrNan{}, scratch, thread);
}

template <class Kernel>
void expect_reductions(Kernel kernel, int lanes) {
  std::vector<float> values(kReduceThreads);
  for (int i = 0; i < kReduceThreads; ++i)
    values[static_cast<std::size_t>(i)] = static_cast<float>((i * 37) % 101 - 50);  // exact sums
  values[70] = kNan;
  const DeviceVector<float> in(values), sum(values), maximum(values);
  kernel<<<1, kReduceThreads>>>(in.get(), sum.get(), maximum.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<float> sums = sum.host();
  const std::vector<float> maxima = maximum.host();
  for (int i = 0; i < kReduceThreads; ++i) {
    float expected_sum = 0;
    float expected_max = -kInf;
    for (int j = i / lanes * lanes; j < i / lanes * lanes + lanes; ++j) {
      const float x = values[static_cast<std::size_t>(j)];
      expected_sum += x;
      expected_max = std::isnan(x) || std::isnan(expected_max) ? kNan : std::max(expected_max, x);
    }
    const auto at = static_cast<std::size_t>(i);
    EXPECT_TRUE(sums[at] == expected_sum || (std::isnan(sums[at]) && std::isnan(expected_sum)));
    EXPECT_TRUE(maxima[at] == expected_max || (std::isnan(maxima[at]) && std::isnan(expected_max)));
  }
}

TEST_F(CommonDevice, ReducesGroupsOfLanesAndWholeCtas) {
  expect_reductions(reduce_lanes<8>, 8);
  expect_reductions(reduce_lanes<16>, 16);
  expect_reductions(reduce_lanes<32>, 32);
  expect_reductions(reduce_cta, kReduceThreads);
}

__global__ void exponentials(const float* in, float* out) {
  out[threadIdx.x] = exp2_approx(in[threadIdx.x]);
}

TEST_F(CommonDevice, ExponentialIsAccurate) {
  std::vector<float> values;
  for (int i = 0; i < 1000; ++i) values.push_back(static_cast<float>(i) * 0.1367f - 125.0f);
  values.push_back(-kInf);
  values.push_back(0.0f);
  const DeviceVector<float> in(values), out(values);
  const int count = static_cast<int>(values.size());
  exponentials<<<1, count>>>(in.get(), out.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<float> results = out.host();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double exact = std::exp2(static_cast<double>(values[i]));
    EXPECT_TRUE(std::fabs(results[i] - exact) <= 4 * kFp32Roundoff * exact) << values[i];
  }
}

/// The online softmax of one warp: lane l absorbs scores [l][rounds][4].
__global__ void online_lse(const float* scores, int rounds, float* lse) {
  OnlineSoftmax row;
  for (int round = 0; round < rounds; ++round) {
    float x[4];
    for (int i = 0; i < 4; ++i)
      x[i] = scores[(static_cast<int>(threadIdx.x) * rounds + round) * 4 + i];
    row.absorb(x);
  }
  row.merge_lanes<32>();
  lse[threadIdx.x] = row.lse_log2();
}

float lse_of(const std::vector<float>& scores) {
  const DeviceVector<float> in(scores), out(std::vector<float>(32));
  const int rounds = static_cast<int>(scores.size()) / 128;
  online_lse<<<1, 32>>>(in.get(), rounds, out.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<float> all = out.host();
  for (const float lane : all) EXPECT_TRUE(same_bits(lane, all[0]));
  return all[0];
}

TEST_F(CommonDevice, OnlineSoftmaxMatchesTwoPasses) {
  constexpr int kCount = 32 * 8 * 4;
  std::vector<float> scores(kCount);
  for (int i = 0; i < kCount; ++i)
    scores[static_cast<std::size_t>(i)] = static_cast<float>((i * 73) % 257) * 0.11f - 9;
  scores[5] = -kInf;
  double sum = 0;
  for (const float s : scores) sum += std::exp2(static_cast<double>(s));
  // Rounding of the exponentials, of the sum's random walk and of the result.
  const double exact = std::log2(sum);
  const double tolerance = kFp32Roundoff * (std::fabs(exact) + 8 + 4 * std::sqrt(double{kCount}));
  EXPECT_TRUE(std::fabs(lse_of(scores) - exact) <= tolerance);

  EXPECT_EQ(lse_of(std::vector<float>(128, -kInf)), kInf);  // no weight
  std::vector<float> one(128, -kInf);
  one[127] = -3.5f;
  EXPECT_EQ(lse_of(one), -3.5f);
  scores[7] = kNan;
  EXPECT_TRUE(std::isnan(lse_of(scores)));
  scores[7] = kInf;
  EXPECT_TRUE(std::isnan(lse_of(scores)));
}

/// Row r of the test matrix has r elements less than the pitch.
struct ShrinkingRows {
  std::int64_t pitch;
  __device__ __host__ std::int64_t operator()(std::int64_t row) const { return pitch - row; }
};

TEST_F(CommonDevice, RowSoftmaxOfEveryLength) {
  constexpr std::int64_t kRows = 11;
  for (const DType dtype : kDTypes) {
    with_element_type(dtype, [&]<class T>(std::type_identity<T>) {
      for (const std::int64_t vectors : {2, 128, 129, 2000, 4096, 4097}) {
        const std::int64_t pitch = vectors * kVectorElements<T>;
        std::vector<float> storage(static_cast<std::size_t>(kRows * pitch));
        const ShrinkingRows end{pitch};
        for (std::int64_t i = 0; i < kRows * pitch; ++i)  // NaN behind each row's end
          store_element(storage.data(), dtype, i,
                        i % pitch < end(i / pitch) ? static_cast<float>(i * 7 % 61) * 0.25f : kNan);
        const DeviceVector<float> data(storage);
        const auto kernel = row_softmax_kernel<T, ShrinkingRows>(pitch);
        const SoftmaxRows<ShrinkingRows> rows{data.get(), pitch, kRows, end};
        const auto ctas = static_cast<unsigned>(kernel.ctas(kRows));
        kernel.function<<<ctas, kernel.threads>>>(rows);
        CUDA_CHECK_LAUNCH();
        const std::vector<float> result = data.host();
        for (std::int64_t r = 0; r < kRows; ++r) {
          double sum = 0;
          const auto exponential = [&](std::int64_t n) {
            return std::exp(double{load_element(storage.data(), dtype, r * pitch + n)} - 15.0);
          };
          for (std::int64_t n = 0; n < end(r); ++n) sum += exponential(n);
          int wrong = 0;
          for (std::int64_t n = 0; n < pitch; ++n) {
            const double weight = load_element(result.data(), dtype, r * pitch + n);
            if (n >= end(r)) {
              wrong += std::isnan(weight) ? 0 : 1;
              continue;
            }
            // Scores below 16 in base 2 carry 5 bits before the point; then as in the test above.
            const double exact = exponential(n) / sum;
            const double relative =
                kFp32Roundoff * (64 + 4 * std::sqrt(static_cast<double>(pitch))) +
                unit_roundoff(dtype);
            wrong += std::fabs(weight - exact) <= relative * exact + half_subnormal(dtype) ? 0 : 1;
          }
          EXPECT_EQ(wrong, 0) << "vectors " << vectors << " row " << r;
        }
      }
    });
  }
}

}  // namespace
}  // namespace attn
