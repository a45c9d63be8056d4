// Row sums that the CTAs of a team add up as integers: exact enough, or known not to be.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/colreduce/resident_totals.cuh"
#include "tests/device_vector.cuh"
#include "tests/sm90_device.cuh"

namespace attn::colreduce {
namespace {

class ResidentTotals : public sm90::Sm90Test {};

struct Answer {
  bool early;     // complete before the last part
  bool complete;  // with the last one
  bool exact;
  float sum;
};

// One row a thread: adds up the parts of `ranks` ranks.
__global__ void add_up_kernel(const float* sums,      // [rows, ranks]
                              const float* origins,   // [rows, ranks]
                              const float* expected,  // [rows]
                              int ranks,
                              Answer* answers) {  // [rows]
  const unsigned row = threadIdx.x;
  std::uint64_t total = 0;
  Answer answer{};
  for (int rank = 0; rank < ranks; ++rank) {
    answer.early = answer.early || RowTotals::complete(total, ranks);
    total += RowTotals::part(sums[row * ranks + rank], origins[row * ranks + rank], expected[row]);
  }
  answer.complete = RowTotals::complete(total, ranks);
  answer.exact = RowTotals::exact(total);
  answer.sum = RowTotals::sum(total);
  answers[row] = answer;
}

std::vector<Answer> add_up(const std::vector<float>& sums,
                           const std::vector<float>& origins,
                           const std::vector<float>& expected) {
  const std::size_t rows = expected.size();
  const DeviceVector<Answer> answers{std::vector<Answer>(rows)};
  add_up_kernel<<<1, static_cast<unsigned>(rows)>>>(
      DeviceVector<float>(sums).get(), DeviceVector<float>(origins).get(),
      DeviceVector<float>(expected).get(), static_cast<int>(sums.size() / rows), answers.get());
  CUDA_CHECK_LAUNCH();
  return answers.host();
}

TEST_F(ResidentTotals, SumsInRangeAreThoseOfTheParts) {
  constexpr std::size_t kRows = 512;
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> log(-38, 2);  // of a part, in two halves
  std::uniform_real_distribution<float> shift(-100, 100);
  for (const std::size_t ranks : {1, 4, 33, 64, 132}) {
    std::vector<float> sums(kRows * ranks);
    std::vector<float> origins(kRows * ranks);
    std::vector<float> expected(kRows);
    std::vector<double> wanted(kRows);
    for (std::size_t row = 0; row < kRows; ++row) {
      expected[row] = std::floor(shift(generator));
      for (std::size_t i = row * ranks; i < (row + 1) * ranks; ++i) {
        origins[i] = expected[row] + std::floor(log(generator) / 2);
        sums[i] = i % 7 == 3 ? 0 : std::exp2(log(generator) / 2);
        wanted[row] += std::ldexp(sums[i], static_cast<int>(origins[i] - expected[row]));
      }
    }
    const std::vector<Answer> answers = add_up(sums, origins, expected);
    int in_range = 0;
    for (std::size_t row = 0; row < kRows; ++row) {
      const Answer& answer = answers[row];
      EXPECT_FALSE(answer.early) << "ranks " << ranks << ", row " << row;
      EXPECT_TRUE(answer.complete) << "ranks " << ranks << ", row " << row;
      const double log_sum = std::log2(wanted[row]);
      if (log_sum > 1 - RowTotals::kRange && log_sum < 3.99) {
        EXPECT_TRUE(answer.exact) << "ranks " << ranks << ", 2^" << log_sum;
      }
      if (!answer.exact) continue;
      ++in_range;
      EXPECT_NEAR(answer.sum, wanted[row], std::exp2(-15) * wanted[row]);
    }
    EXPECT_GT(in_range, 100) << "ranks " << ranks;
  }
}

TEST_F(ResidentTotals, WhatIsTooSmallTooLargeOrNaNIsNotExact) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> bad = {
      0, std::exp2(-23.0f), std::exp2(-80.0f), 17, std::exp2(20.0f), kInfinity, NAN};
  std::vector<float> sums;
  for (const float one : bad) {
    sums.push_back(one);
    sums.push_back(one != one || one > 1 ? 1.0f : 0.0f);  // another rank hides nothing
  }
  const std::vector<Answer> answers =
      add_up(sums, std::vector<float>(sums.size()), std::vector<float>(bad.size()));
  for (std::size_t row = 0; row < bad.size(); ++row) {
    EXPECT_TRUE(answers[row].complete) << bad[row];
    EXPECT_FALSE(answers[row].exact) << bad[row];
  }
}

TEST_F(ResidentTotals, AllRanksTooLargeStillAddUpToTheirNumber) {
  const std::vector<float> sums(132, std::exp2(60.0f));
  const std::vector<Answer> answers = add_up(sums, std::vector<float>(sums.size()), {0});
  EXPECT_TRUE(answers[0].complete);
  EXPECT_FALSE(answers[0].exact);
}

}  // namespace
}  // namespace attn::colreduce
