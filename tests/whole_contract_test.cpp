// What the tensor-core backends refuse: types, dimensions and strides, no option of the contract.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "reference/colreduce/contract.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

class WholeContract : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (const auto& slot : ColReduce::backends()) {
      if (slot.id == GetParam()) backend_ = slot.backend;
    }
    if (!backend_) GTEST_SKIP() << GetParam() << " is not in this build";
    device_.space = MemorySpace::kDevice;
    device_.sm = 80;
    device_.sm_count = 108;
    device_.shared_bytes_per_block = 163 * 1024;
  }

  const Backend<ColReduce>* backend_ = nullptr;
  DeviceInfo device_;
};

/// Whether 16-byte loads reach every row.
bool has_vector_rows(const Problem& p) {
  const std::vector<TensorSpec> specs = ColReduce::tensor_specs(p);
  return std::all_of(specs.begin(), specs.begin() + 2, [](const TensorSpec& spec) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if (spec.shape[axis] > 1 && spec.strides[axis] % 8 != 0) return false;
    }
    return spec.offset_elements % 8 == 0;
  });
}

TEST_P(WholeContract, RefusesTypesDimensionsAndStridesAlone) {
  int taken = 0;
  for (const auto& suite : ColReduce::suites()) {
    if (suite.name != "random" && suite.name != "edge") continue;
    for (const auto& c : suite.cases) {
      const Problem& p = c.problem;
      const bool fits = p.dtype != DType::kF32 && p.D % 8 == 0 && p.D <= 256 && has_vector_rows(p);
      const Support support = backend_->supports(p, device_);
      EXPECT_EQ(support.ok, fits) << support.reason;
      taken += fits;
    }
  }
  EXPECT_GT(taken, 5000);
}

INSTANTIATE_TEST_SUITE_P(Backends,
                         WholeContract,
                         testing::Values("mma_sm80", "split_k"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace attn
