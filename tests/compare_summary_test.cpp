// The sweep's summary: what withdraws a call, what a mean never hides, the exit codes.
#include "harness/compare_summary.h"

#include <gtest/gtest.h>

#include "harness/usage_error.h"

namespace attn {
namespace {

ComparedCell cell(double ratio, Verdict verdict, double p = 1e-9) {
  ComparedCell cell;
  cell.key = std::to_string(ratio);
  cell.name = "cell_" + cell.key;
  cell.ratio = ratio;
  cell.ci99 = Interval{ratio * 0.999, ratio * 1.001};
  cell.p = p;
  cell.verdict = verdict;
  return cell;
}

ComparedCell failed(Status status) {
  ComparedCell cell;
  cell.status = status;
  cell.reason = "why";
  return cell;
}

TEST(CompareSummary, TheMeanStandsBesideTheWorstCellAndTheSlowerShare) {
  const CompareSummary summary =
      summarise_cells({cell(0.5, Verdict::kFaster), cell(2, Verdict::kSlower),
                       cell(1, Verdict::kSame), failed(Status::kUnsupported)},
                      {});
  EXPECT_DOUBLE_EQ(summary.mean_ratio, 1);
  EXPECT_EQ(summary.worst.ratio, 2);
  EXPECT_EQ(summary.compared, 3u);
  EXPECT_DOUBLE_EQ(summary.slower_share(), 1.0 / 3);
  ASSERT_TRUE(summary.mean_interval.has_value());
  EXPECT_LT(summary.mean_interval->low, 1);
  EXPECT_GT(summary.mean_interval->high, 1);
  const std::string text = summary_text(summary);
  for (const char* word : {"geometric mean 1.0000", "worst cell 2.0000 cell_2", "SLOWER 1 of 3",
                           "not compared, UNSUPPORTED: why"})
    EXPECT_NE(text.find(word), std::string::npos) << word << '\n' << text;
}

TEST(CompareSummary, OneCellHasNoIntervalOverCells) {
  EXPECT_FALSE(summarise_cells({cell(0.5, Verdict::kFaster)}, {}).mean_interval.has_value());
}

TEST(CompareSummary, ACallThatTheSweepDoesNotBearIsWithdrawn) {
  std::vector<ComparedCell> cells(20, cell(1, Verdict::kUndecided, 0.5));
  cells.push_back(cell(1.1, Verdict::kSlower, 0.009));  // alone it would stand
  const CompareSummary summary = summarise_cells(cells, {});
  EXPECT_EQ(summary.slower, 0u);
  ASSERT_EQ(summary.withdrawn.size(), 1u);
  EXPECT_EQ(summary.withdrawn[0], cells.back().key);
  EXPECT_EQ(summary.cells.back().verdict, Verdict::kUndecided);
  EXPECT_EQ(summarise_cells({cells.back()}, {}).slower, 1u);
}

TEST(CompareSummary, DoubtsWithdrawTheCallsOfTheirSessionAlone) {
  ComparedCell earlier = cell(1.3, Verdict::kSlower);
  earlier.earlier = true;
  const CompareSummary summary =
      summarise_cells({cell(1.2, Verdict::kSlower), earlier}, {"the sentinel drifted by 3.0 %"});
  EXPECT_EQ(summary.cells[0].verdict, Verdict::kUndecided);
  EXPECT_EQ(summary.cells[1].verdict, Verdict::kSlower);
  EXPECT_NE(summary_text(summary).find("UNPROVEN: the sentinel"), std::string::npos);
}

TEST(CompareSummary, SameNeedsNoSignificance) {
  const CompareSummary summary = summarise_cells({cell(1, Verdict::kSame, 0.9)}, {});
  EXPECT_EQ(summary.cells[0].verdict, Verdict::kSame);
  EXPECT_TRUE(summary.withdrawn.empty());
}

int code(std::vector<ComparedCell> cells, bool strict, std::vector<std::string> doubts = {}) {
  return exit_code(summarise_cells(std::move(cells), std::move(doubts)), strict);
}

TEST(CompareSummary, ExitCodes) {
  const ComparedCell faster = cell(0.9, Verdict::kFaster);
  const ComparedCell slower = cell(1.1, Verdict::kSlower);
  const ComparedCell undecided = cell(1.001, Verdict::kUndecided, 0.4);
  const ComparedCell wrong = failed(Status::kIncorrect);
  for (const bool strict : {false, true}) {
    EXPECT_EQ(code({faster, cell(1, Verdict::kSame)}, strict), 0);
    EXPECT_EQ(code({faster, slower}, strict), 1);
    EXPECT_EQ(code({failed(Status::kUnsupported)}, strict), 2) << "nothing was compared";
    EXPECT_EQ(code({failed(Status::kUnsupported)}, strict, {"doubt"}), strict ? 4 : 2);
    EXPECT_EQ(code({faster, slower, wrong}, strict), 3);
    EXPECT_EQ(code({faster, failed(Status::kCrash)}, strict), 3);
    EXPECT_EQ(code({faster, failed(Status::kUnsupported)}, strict), 0);
    EXPECT_EQ(code({faster, undecided}, strict), strict ? 4 : 0);
    EXPECT_EQ(code({faster, failed(Status::kTimeout)}, strict), strict ? 4 : 0);
    EXPECT_EQ(code({slower}, strict, {"doubt"}), strict ? 4 : 0) << "unproven: no regression";
    EXPECT_EQ(code({slower, undecided}, strict), 1) << "a regression comes first";
  }
}

TEST(CompareControl, ACallIsADoubtAndAnythingElseAFloor) {
  for (const Verdict verdict : {Verdict::kFaster, Verdict::kSlower}) {
    const ControlOutcome called = judge_control(cell(1.02, verdict), 0.005);
    EXPECT_EQ(called.delta, 0.005);
    EXPECT_NE(called.doubt.value_or("").find("was called"), std::string::npos);
  }
  for (const double ratio : {1.02, 1 / 1.02}) {
    const ControlOutcome outcome = judge_control(cell(ratio, Verdict::kUndecided), 0.005);
    EXPECT_DOUBLE_EQ(outcome.delta, 1.02 - 1);
    EXPECT_FALSE(outcome.doubt.has_value());
  }
  EXPECT_EQ(judge_control(cell(1.001, Verdict::kSame), 0.005).delta, 0.005);
  EXPECT_TRUE(judge_control(failed(Status::kTimeout), 0.005).doubt.has_value());
}

TEST(CompareControl, ADriftingSentinelIsADoubtOfClaims) {
  EXPECT_TRUE(sentinel_doubt({100, 103, 100}, kClaim).has_value());
  EXPECT_FALSE(sentinel_doubt({100, 101, 100}, kClaim).has_value());
  EXPECT_FALSE(sentinel_doubt({100, 103, 100}, kProvisional).has_value());
}

TEST(CompareSummary, ARowThatLacksAFieldIsOneSentence) {
  EXPECT_THROW(compared_cell({{"type", "compare"}, {"key", "00"}}), UsageError);
}

}  // namespace
}  // namespace attn
