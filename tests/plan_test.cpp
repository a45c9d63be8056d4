// Selections: axes, suites, globs, conditions, and what they refuse in one sentence.
#include "harness/plan.h"

#include <gtest/gtest.h>

#include "harness/cost_model.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

Selection colreduce() {
  Selection selection;
  selection.op = "colreduce";
  selection.backends = "cpu_fused";
  return selection;
}

std::string complaint(const Selection& selection) {
  try {
    make_plan(selection);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> ids(const Selection& selection) {
  std::vector<std::string> ids;
  for (const PlanItem& item : make_plan(selection)) ids.push_back(item.case_id);
  return ids;
}

using Values = std::vector<std::string>;

TEST(Axis, ListsAndRanges) {
  EXPECT_EQ(expand_axis("M", "128,256"), (Values{"128", "256"}));
  EXPECT_EQ(expand_axis("N", "1k:8k:x2"), (Values{"1024", "2048", "4096", "8192"}));
  EXPECT_EQ(expand_axis("N", "64:200:+64"), (Values{"64", "128", "192"}));
  EXPECT_EQ(expand_axis("mask", "none,causal"), (Values{"none", "causal"}));
}

TEST(Axis, RangesThatNeverEndAreRefused) {
  EXPECT_THROW(expand_axis("N", "1:8:x1"), UsageError);
  EXPECT_THROW(expand_axis("N", "1:8:+0"), UsageError);
  EXPECT_THROW(expand_axis("N", "8:1:x2"), UsageError);
  EXPECT_THROW(expand_axis("N", "0:8:x2"), UsageError);
}

TEST(Plan, CrossesAxesAndKeepsTheCondition) {
  Selection selection = colreduce();
  selection.axes = {{"M", "16,64"}, {"N", "16,64"}};
  EXPECT_EQ(ids(selection).size(), 4u);
  selection.where = "M<=N && N!=16";
  EXPECT_EQ(ids(selection),
            (Values{"B1_H1_M16_N64_D128_f16_sum_none", "B1_H1_M64_N64_D128_f16_sum_none"}));
}

TEST(Plan, ShapesSetSeveralFields) {
  Selection selection = colreduce();
  selection.shapes = {"B4H8M32N64D16", "H6H_kv2M8"};
  EXPECT_EQ(ids(selection),
            (Values{"B4_H8_M32_N64_D16_f16_sum_none", "B1_H6_H_kv2_M8_N1024_D128_f16_sum_none"}));
}

TEST(Plan, AxesOverrideASuiteAndEqualCellsMerge) {
  Selection selection = colreduce();
  selection.suite = "readme";
  EXPECT_EQ(ids(selection).size(), 19u) << "20 cells, two axes share one";
  selection.axes = {{"M", "64"}, {"N", "64"}, {"mask", "none"}};
  EXPECT_EQ(ids(selection).size(), 5u) << "only B differs now";
}

TEST(Plan, GroupsBackendsByCaseInReadingOrder) {
  Selection selection = colreduce();
  selection.backends = "cpu*";
  selection.axes = {{"B", "1,2"}};
  std::vector<std::string> names;
  for (const PlanItem& item : make_plan(selection)) names.push_back(item.name());
  EXPECT_EQ(names, (Values{"colreduce/cpu_reference/B1_H1_M1024_N1024_D128_f16_sum_none/normal",
                           "colreduce/cpu_fused/B1_H1_M1024_N1024_D128_f16_sum_none/normal",
                           "colreduce/cpu_reference/B2_H1_M1024_N1024_D128_f16_sum_none/normal",
                           "colreduce/cpu_fused/B2_H1_M1024_N1024_D128_f16_sum_none/normal"}));
}

TEST(Plan, GlobsAddAndSubtract) {
  Selection selection = colreduce();
  selection.backends = "cpu*,!cpu_reference";
  EXPECT_EQ(make_plan(selection).size(), 1u);
  selection.backends = "!cpu*";
  EXPECT_EQ(make_plan(selection).size(), 9u);
}

TEST(Plan, FamiliesReplaceTheSuites) {
  Selection selection = colreduce();
  selection.families = "peaked,neg";
  EXPECT_EQ(make_plan(selection).size(), 2u);
}

TEST(Plan, EveryMistakeIsOneSentence) {
  Selection selection = colreduce();
  selection.op = "colreduse";
  EXPECT_EQ(complaint(selection).rfind(
                "there is no operator 'colreduse'; known: colreduce, attnres_phase1, ", 0),
            0u);
  selection = colreduce();
  selection.backends = "wgmma";
  EXPECT_EQ(complaint(selection).rfind(
                "there is no backend 'wgmma'; known: cpu_reference, cpu_fused, libtorch, ", 0),
            0u);
  selection = colreduce();
  selection.suite = "readmee";
  EXPECT_EQ(complaint(selection).rfind("there is no suite 'readmee'", 0), 0u);
  selection = colreduce();
  selection.families = "odd";
  EXPECT_EQ(complaint(selection).rfind("there is no input family 'odd'", 0), 0u);
  selection = colreduce();
  selection.axes = {{"Q", "3"}};
  EXPECT_EQ(complaint(selection), "colreduce has no field 'Q'");
  selection.axes = {{"M", "0"}};
  EXPECT_EQ(complaint(selection), "M must be at least 1, not 0");
  selection.axes = {};
  selection.shapes = {"B4X"};
  EXPECT_EQ(complaint(selection), "--shape must be like B4H8M4096N4096D128, not 'B4X'");
  selection = colreduce();
  selection.where = "M < ";
  EXPECT_EQ(complaint(selection), "--where must be like 'M<=N && B==1', not 'M < '");
  selection.where = "Z < 3";
  EXPECT_EQ(complaint(selection), "--where knows no size called 'Z'");
  selection.where = "M < 3";
  EXPECT_EQ(complaint(selection), "the selection is empty");
}

TEST(CostModel, ScalesWithWorkOverAFixedCost) {
  CostModel model(0.5);
  EXPECT_EQ(model.predict("a", 1e9), 0.5);
  model.observe("a", 9e8, 2);
  EXPECT_DOUBLE_EQ(model.predict("a", 2.9e9), 6);
  EXPECT_DOUBLE_EQ(model.predict("a", 0), 0.2);
  EXPECT_DOUBLE_EQ(model.predict("a", 0, 10), 2);
  model.observe("a", 1e8, 100);  // a smaller case tells less
  EXPECT_DOUBLE_EQ(model.predict("a", 9e8), 2);
  EXPECT_EQ(model.predict("b", 1e9), 0.5);
}

/// Where 1k^2 of suite readme takes a second, 16k^2, 256 times the work, must not look like minutes.
TEST(CostModel, OnADeviceFixedStepsAreMost) {
  CostModel model(0.02, CostModel::kDeviceFixedWork);
  const double work = 2.0 * 32 * 1024 * 1024 * 128;
  model.observe("a", work, 1);
  EXPECT_GT(model.predict("a", 256 * work), 2);
  EXPECT_LT(model.predict("a", 256 * work), 5);
}

TEST(CostModel, TinyCellsSayLittleOfLargeOnes) {
  CostModel model(0.5);
  model.observe("a", 2, 0.01);
  EXPECT_LT(model.predict("a", 1e7), 0.012);
}

}  // namespace
}  // namespace attn
