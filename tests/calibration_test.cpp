// The A/A calibration: what a session makes of its cells, what a later one finds in rows, and that
// equal arms are called SAME by the rule that calibrates.
#include "harness/calibration.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>

#include "harness/compare_row.h"
#include "tests/fake_timer.h"

namespace attn {
namespace {

namespace fs = std::filesystem;

ComparedCell cell(double ratio, Verdict verdict) {
  ComparedCell cell;
  cell.verdict = verdict;
  cell.ratio = ratio;
  return cell;
}

TEST(Calibration, TheFloorIsTheLargestDifference) {
  const Calibration found =
      calibration_of({cell(1.001, Verdict::kSame), cell(1, Verdict::kSame),
                      cell(0.8, Verdict::kUndecided), cell(0, Verdict::kUndecided)},
                     "s");
  EXPECT_EQ(found.floor, 0.25);
  EXPECT_EQ(found.cells, 3u) << "one gave no ratio";
  EXPECT_EQ(found.same, 2u);
}

class CalibrationRows : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "attnbench_rows_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { fs::remove_all(directory_); }

  static Json run(const std::string& id, const std::string& driver = "580.1") {
    return {{"type", "run"},
            {"schema", 1},
            {"run_id", id},
            {"device", {{"name", "H200"}}},
            {"driver", driver}};
  }
  /// The end of a session that calibrated.
  static Json event(const std::string& id,
                    double floor,
                    std::vector<std::string> doubts = {},
                    const Level& level = kClaim) {
    CompareSession session{.id = id, .level = level};
    session.found = Calibration{floor, 3, 3, id};
    CompareSummary summary;
    summary.doubts = std::move(doubts);
    return session_row(session, {1, 1}, summary);
  }
  std::string file(const std::string& name, const std::vector<Json>& rows) const {
    RowFile file(directory_ + "/" + name);
    for (const Json& row : rows) file.append(row);
    return file.path();
  }
  static double floor(const std::vector<std::string>& files, bool cold = true) {
    const auto found = find_calibration(run("now"), cold, files);
    return found ? found->floor : -1;
  }

  std::string directory_;
};

TEST_F(CalibrationRows, TheNewestOfThisMachineCounts) {
  const std::string old = file("a", {run("1"), event("1", 0.001), run("2"), event("2", 0.002)});
  EXPECT_EQ(floor({old}), 0.002);
  const std::string newer = file("b", {run("3"), event("3", 0.003)});
  EXPECT_EQ(floor({old, newer}), 0.003);
  const auto found = find_calibration(run("now"), true, {old, newer});
  EXPECT_EQ(found->session, "3");
  EXPECT_EQ(found->same, 3u);
  EXPECT_EQ(floor({}), -1);
}

TEST_F(CalibrationRows, OtherMachinesDriversCachesLevelsAndDoubtsDoNot) {
  const std::string path =
      file("a", {run("1", "570.1"), event("1", 0.01), run("2"), event("2", 0.02, {"a doubt"}),
                 run("3"), event("3", 0.03, {}, kProvisional), run("4")});
  EXPECT_EQ(floor({path}), -1);
  const std::string cold = file("b", {run("5"), event("5", 0.05)});
  EXPECT_EQ(floor({cold}, /*cold=*/false), -1);
}

TEST_F(CalibrationRows, ASessionThatOnlyTookOverAFloorIsNoCalibration) {
  Json taken = event("2", 0.004);
  taken["calibration"]["session"] = "1";
  EXPECT_EQ(floor({file("a", {run("2"), taken})}), -1);
}

/// Equal arms as noisy as short, middle and long kernels; the short ones are brief. Samples in the middle
/// of a block take longer, by as much as on an H200.
TEST(Calibration, EqualArmsAreSame) {
  constexpr int kSamples = 640;  // of a process that takes all the blocks it may
  int same = 0;
  int cells = 0;
  std::uint64_t seed = 0;
  const auto compare = [&](double white, bool brief) {
    const OpenProcess open = [&] {
      const Noise noise{.white = white, .place = 0.006};
      BlockProcess process = process_of(std::make_shared<FakeTimer>(noise, 1, ++seed, kSamples));
      process.brief = [brief] { return brief; };
      return process;
    };
    const Gathered claim = gather(kClaim, open, [](bool) { return false; });
    same += decide(claim.processes, kClaim, kClaim.delta).verdict == Verdict::kSame;
    ++cells;
  };
  for (int session = 0; session < 100; ++session) {
    compare(0.006, /*brief=*/true);
    compare(0.002, /*brief=*/false);
    compare(0.001, /*brief=*/false);
  }
  EXPECT_GE(100 * same, 99 * cells) << same << " of " << cells;
}

}  // namespace
}  // namespace attn
