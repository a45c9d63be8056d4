// The fp64 oracles of attention residuals on the GPU against those on the CPU, over the suites that a
// CPU manages; and the comparer on the GPU against the one on the host.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "harness/buffer.h"
#include "harness/environment.h"
#include "harness/gpu.h"
#include "harness/host_memory.h"
#include "harness/seed.h"
#include "harness/verify.h"
#include "reference/attnres_merge/contract.h"
#include "reference/attnres_merge_bwd/contract.h"
#include "reference/attnres_merge_pair/contract.h"
#include "reference/attnres_merge_pair_bwd/contract.h"
#include "reference/attnres_phase1/contract.h"
#include "reference/attnres_phase1_bwd/contract.h"

namespace attn {
namespace {

/// Relative agreement that fp64 arithmetic in another order reaches; where terms cancel, relative to
/// them: bounds are 2^-21 or more of the terms' magnitude.
constexpr double kFp64 = 1e-13;
constexpr double kOfBound = 0x1p-24;

constexpr double kManyFlops = 3e7;  // keeps the CPU's oracle within seconds

/// Tensors of a problem in one memory space, filled from a family.
template <class Op>
class Filled {
 public:
  Filled(const typename Op::Problem& p, InputFamily family, MemorySpace space) : problem_(p) {
    const auto fill = space == MemorySpace::kDevice ? gpu::fill_input : host::fill_input;
    for (const TensorSpec& spec : Op::tensor_specs(p)) {
      buffers_.emplace_back(space, spec.storage_bytes());
      pointers_.push_back(buffers_.back().data());
      if (spec.role != TensorRole::kOutput)
        fill(spec, pointers_.back(), family, tensor_key(3, "", spec.label()));
    }
  }
  typename Op::Tensors tensors() const { return Op::bind(problem_, pointers_); }

 private:
  typename Op::Problem problem_;
  std::vector<Buffer> buffers_;
  std::vector<void*> pointers_;
};

template <class T>
std::vector<T> fetch(const T* device, std::size_t count) {
  std::vector<T> host(count);
  gpu::copy_to_host(host.data(), device, count * sizeof(T));
  return host;
}

void expect_same(const attnres::Reference& cpu, const attnres::Reference& gpu) {
  ASSERT_TRUE(gpu.on_device);
  ASSERT_EQ(gpu.on_device->elements, cpu.value.size());
  ASSERT_EQ(gpu.outputs.size(), cpu.outputs.size());
  const std::vector<double> value = fetch(gpu.on_device->value, cpu.value.size());
  const std::vector<float> error = fetch(gpu.on_device->error, cpu.value.size());
  for (std::size_t i = 0; i < cpu.value.size(); ++i) {
    ASSERT_LE(std::abs(value[i] - cpu.value[i]),
              kFp64 * std::abs(cpu.value[i]) + kOfBound * cpu.error[i])
        << i;
    ASSERT_LE(std::abs(error[i] - cpu.error[i]), 0x1p-20f * cpu.error[i]) << i;  // kept in fp32
  }
  for (std::size_t o = 0; o < cpu.outputs.size(); ++o) {
    EXPECT_EQ(gpu.outputs[o].end, cpu.outputs[o].end);
    const double expected = attnres::norm_tolerance(cpu, o);
    const double actual = attnres::norm_tolerance(gpu, o);
    EXPECT_TRUE(actual == expected || std::abs(actual - expected) <= 0x1p-20 * expected) << o;
  }
}

/// What the GPU's oracles do not know.
template <class Problem>
bool has_norm(const Problem& p) {
  if constexpr (std::is_base_of_v<attnres::NormFields, Problem>) return p.has_norm();
  return false;
}

template <class Op>
class AttnResOracle : public testing::Test {};

struct OperatorName {
  template <class Op>
  static std::string GetName(int) {
    return std::string(Op::kName);
  }
};
using Operators = testing::Types<AttnResPhase1,
                                 AttnResPhase1Bwd,
                                 AttnResMerge,
                                 AttnResMergeBwd,
                                 AttnResMergePair,
                                 AttnResMergePairBwd>;
TYPED_TEST_SUITE(AttnResOracle, Operators, OperatorName);

TYPED_TEST(AttnResOracle, CpuAndGpuAgree) {
  std::string why;
  if (!gpu::find(why)) GTEST_SKIP() << "no GPU: " << why;
  int compared = 0;
  for (const auto& suite : TypeParam::suites()) {
    for (const auto& one : suite.cases) {
      if (TypeParam::work(one.problem).mma_flops > kManyFlops || has_norm(one.problem)) continue;
      const Filled<TypeParam> here(one.problem, one.family, MemorySpace::kHost);
      const Filled<TypeParam> there(one.problem, one.family, MemorySpace::kDevice);
      const auto gpu = TypeParam::oracle_on_device(one.problem, there.tensors());
      ASSERT_TRUE(gpu.has_value());
      SCOPED_TRACE(suite.name + " " + std::to_string(compared++));
      expect_same(TypeParam::oracle(one.problem, here.tensors()), *gpu);
      if (this->HasFatalFailure()) return;
    }
  }
  EXPECT_GT(compared, 20);
}

TYPED_TEST(AttnResOracle, NormsAreLeftToTheCpu) {
  for (const auto& suite : TypeParam::suites()) {
    for (const auto& one : suite.cases) {
      if (has_norm(one.problem))
        EXPECT_FALSE(TypeParam::oracle_on_device(one.problem, {}).has_value()) << suite.name;
    }
  }
}

/// The reference of a test, in both memory spaces.
class TwoPlaces {
 public:
  TwoPlaces(std::vector<double> value, std::vector<float> error)
      : value_(std::move(value)),
        error_(std::move(error)),
        values_(MemorySpace::kDevice, value_.size() * sizeof(double)),
        errors_(MemorySpace::kDevice, error_.size() * sizeof(float)) {
    gpu::copy_to_device(values_.data(), value_.data(), value_.size() * sizeof(double));
    gpu::copy_to_device(errors_.data(), error_.data(), error_.size() * sizeof(float));
  }

  class Here : public AnyReference {
   public:
    explicit Here(const TwoPlaces& places) : places_(places) {}
    std::size_t size() const override { return places_.value_.size(); }
    double value(std::size_t i) const override { return places_.value_[i]; }
    double tolerance(std::size_t i, NumericsClass numerics) const override {
      const double error = numerics == NumericsClass::kFp64 ? 0 : places_.error_[i];
      return unit_roundoff(DType::kF16) * std::abs(value(i)) + half_subnormal(DType::kF16) + error;
    }
    double norm_tolerance(std::size_t, NumericsClass) const override { return 1e9; }
    std::string_view computed_by() const override { return "test"; }

   protected:
    const TwoPlaces& places_;
  };
  class There final : public Here {
   public:
    using Here::Here;
    DeviceAnswer on_device() const override {
      return {static_cast<const double*>(places_.values_.data()),
              static_cast<const float*>(places_.errors_.data()), places_.value_.size()};
    }
  };

 private:
  std::vector<double> value_;
  std::vector<float> error_;
  Buffer values_;
  Buffer errors_;
};

TEST(CompareOnDevice, AgreesWithTheHost) {
  std::string why;
  if (!gpu::find(why)) GTEST_SKIP() << "no GPU: " << why;
  constexpr std::size_t kElements = 1'500'001;  // more than the threads of the kernel
  std::vector<double> value(kElements);
  std::vector<float> error(kElements);
  std::vector<std::uint16_t> output(kElements);
  for (std::size_t i = 0; i < kElements; ++i) {
    value[i] = std::sin(0.37f * static_cast<float>(i));  // exact in fp32
    error[i] = 0x1p-20f * static_cast<float>(i % 7);
    output[i] = float_to_f16(static_cast<float>(value[i]));
  }
  const auto expect_equal = [&](NumericsClass numerics, bool ok) {
    const TwoPlaces places(value, error);
    const OutputView here[] = {{"a", output.data(), DType::kF16, 1000},
                               {"b", output.data() + 1000, DType::kF16, kElements - 1000}};
    const ErrorReport host = compare_with_reference(here, TwoPlaces::Here(places), numerics);
    const ErrorReport device = compare_with_reference(here, TwoPlaces::There(places), numerics);
    EXPECT_EQ(host.ok, ok) << host.complaint;
    EXPECT_EQ(device.ok, host.ok);
    EXPECT_EQ(device.nerr_max, host.nerr_max);
    EXPECT_EQ(device.output, host.output);
    EXPECT_EQ(device.worst, host.worst);
    EXPECT_EQ(device.complaint, host.complaint);
  };
  expect_equal(NumericsClass::kFp32, true);
  expect_equal(NumericsClass::kFp64, true);
  const std::uint16_t right = output[700'001];
  for (const std::uint16_t wrong : {std::uint16_t{0x7e00}, std::uint16_t{0x7c00},
                                    float_to_f16(static_cast<float>(value[700'001]) + 0.25f)}) {
    output[700'001] = wrong;
    expect_equal(NumericsClass::kFp32, false);
  }
  output[700'001] = right;
  value[12] = std::nan("");  // expected, and not there
  expect_equal(NumericsClass::kFp32, false);
  output[12] = 0x7e00;
  expect_equal(NumericsClass::kFp32, true);
}

TEST(CompareOnDevice, BitsOfEitherEndCount) {
  std::string why;
  if (!gpu::find(why)) GTEST_SKIP() << "no GPU: " << why;
  constexpr std::size_t kBytes = 3'000'002;
  const Buffer a(MemorySpace::kDevice, kBytes);
  a.poison(7);
  const Buffer b = a.copy();
  EXPECT_TRUE(gpu::same_bits(a.data(), b.data(), kBytes));
  for (const std::size_t at : {std::size_t{0}, kBytes / 2, kBytes - 2}) {
    const std::uint16_t word = 0xABCD;
    const Buffer changed = a.copy();
    gpu::copy_to_device(static_cast<char*>(changed.data()) + at, &word, sizeof word);
    EXPECT_FALSE(gpu::same_bits(a.data(), changed.data(), kBytes)) << at;
  }
}

}  // namespace
}  // namespace attn
