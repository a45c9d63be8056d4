// Which views the copy engine takes: a pure function, tested without a GPU. What the maps then
// bring is tested in copies_test_sm90.cu.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "impls/common/tensor_map.h"
#include "reference/colreduce/contract.h"

namespace attn {
namespace {

using Problem = ColReduce::Problem;

/// Why the map of q (or k) of this problem is refused; empty where it is not.
std::string refusal(const Problem& problem, std::size_t tensor) {
  EXPECT_TRUE(ColReduce::validate(problem)) << ColReduce::validate(problem).reason;
  return tensor_map_supports(ColReduce::tensor_specs(problem)[tensor]).reason;
}
std::string refusal_of_q(const Problem& problem) { return refusal(problem, 0); }
std::string refusal_of_k(const Problem& problem) { return refusal(problem, 1); }

TEST(TensorMap, TakesEveryLayoutWithRowsOf16Bytes) {
  for (const Layout layout : {Layout::kHeadMajor, Layout::kRowMajor, Layout::kFusedSlice}) {
    for (const std::int64_t D : {8, 40, 64, 72, 128}) {
      const Problem p{.B = 2, .H = 6, .H_kv = 2, .M = 131, .N = 67, .D = D, .layout = layout};
      EXPECT_EQ(refusal_of_q(p), "");
      EXPECT_EQ(refusal_of_k(p), "");
    }
  }
}

TEST(TensorMap, TakesRepeatedHeadsAndBatchesAndPaddedRows) {
  Problem p{.B = 2, .H = 3, .M = 67, .N = 131, .D = 64, .k_strides = {0, 0, 64, 1}};
  EXPECT_EQ(refusal_of_k(p), "");
  p.k_strides = {131 * 64, 0, 64, 1};
  EXPECT_EQ(refusal_of_k(p), "");
  p.D = 20;  // only strides count, not D
  p.k_strides = {3 * 131 * 24, 131 * 24, 24, 1};
  EXPECT_EQ(refusal_of_k(p), "");
}

TEST(TensorMap, TakesAnyStrideOfAnAxisOfOneElement) {
  EXPECT_EQ(refusal_of_q({.M = 1, .D = 37}), "");
  EXPECT_EQ(refusal_of_q({.M = 1, .D = 37, .q_strides = {1001, 501, 251, 1}}), "");
}

TEST(TensorMap, RefusesStridesThatAreNoMultiplesOf16Bytes) {
  const std::string q = "q must have strides that are multiples of 8 elements";
  EXPECT_EQ(refusal_of_q({.M = 67, .D = 20}), q);
  EXPECT_EQ(refusal_of_q({.M = 67, .D = 64, .q_strides = {67 * 65, 67 * 65, 65, 1}}), q);
  EXPECT_EQ(refusal_of_q({.H = 2, .M = 4, .D = 8, .q_strides = {72, 36, 8, 1}}), q);
  EXPECT_EQ(refusal_of_k({.B = 2, .N = 4, .D = 8, .k_strides = {36, 32, 8, 1}}),
            "k must have strides that are multiples of 8 elements");
}

TEST(TensorMap, RefusesAnOffsetInside16Bytes) {
  // Keys of a fused projection begin behind the query heads: 3 * 20 elements.
  EXPECT_EQ(refusal_of_k({.H = 3, .N = 67, .D = 20, .layout = Layout::kFusedSlice}),
            "k must start at a multiple of 16 bytes");
}

TEST(TensorMap, RefusesARepeatedRow) {
  EXPECT_EQ(refusal_of_k({.N = 67, .D = 64, .k_strides = {64, 64, 0, 1}}),
            "k must not repeat one row");
}

TEST(TensorMap, RefusesWhatItsFieldsCannotHold) {
  constexpr std::int64_t kFar = std::int64_t{1} << 39;  // elements, 2^40 bytes
  EXPECT_EQ(refusal_of_q({.B = 2, .M = 67, .D = 64, .q_strides = {kFar, 64, 64, 1}}),
            "q must have strides below 2^40 bytes");
  EXPECT_EQ(refusal_of_q({.B = 2, .M = 67, .D = 64, .q_strides = {kFar - 8, 64, 64, 1}}), "");
  const std::string many = "q must have fewer than 2^31 rows, heads and batches";
  EXPECT_EQ(refusal_of_q({.M = std::int64_t{1} << 31, .D = 8}), many);
  EXPECT_EQ(refusal_of_q({.B = std::int64_t{1} << 31, .M = 1, .N = 1, .D = 8}), many);
  EXPECT_EQ(refusal_of_q({.M = (std::int64_t{1} << 31) - 1, .D = 8}), "");
}

}  // namespace
}  // namespace attn
