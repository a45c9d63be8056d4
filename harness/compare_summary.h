// What a whole comparison says: which calls stand, the mean with its worst cell, the exit code.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "harness/decision.h"
#include "harness/inference.h"
#include "harness/row.h"

namespace attn {

inline constexpr double kFalseDiscoveryRate = 0.05;

/// One compared cell, as its row says.
struct ComparedCell {
  std::string key;
  std::string name;  ///< of the cell, for people
  Status status = Status::kOk;
  std::optional<std::string> reason;
  Verdict verdict = Verdict::kUndecided;
  double ratio = 0;              ///< t_B / t_A; 0: never compared
  std::optional<Interval> ci99;  ///< of the ratio
  double p = 1;                  ///< of equal speed
  double median_a_ns = 0;
  double median_b_ns = 0;
  bool earlier = false;  ///< of another session, which was proven

  bool compared() const { return ratio > 0; }
};

/// The problem and data of a cell or compare row, for people.
std::string problem_name(const Json& row);

/// Throws UsageError when the row lacks what a summary needs.
ComparedCell compared_cell(const Json& row);

/// What a backend measured against itself says of the session: differences that the control shows
/// count as none from then on; a control that was called is a doubt.
struct ControlOutcome {
  double delta = 0;
  std::optional<std::string> doubt{};
};
ControlOutcome judge_control(const ComparedCell& control, double delta);

/// A claim's doubt about a machine whose sentinel drifted.
std::optional<std::string> sentinel_doubt(const std::vector<double>& times_ns, const Level& level);

struct CompareSummary {
  std::vector<ComparedCell> cells;        ///< with the verdicts that stand
  std::vector<std::string> doubts;        ///< why no call of this session stands; empty: proven
  std::vector<std::string> withdrawn;     ///< keys of cells whose call does not stand
  std::size_t compared = 0;               ///< cells with a ratio
  std::size_t slower = 0;                 ///< of these, SLOWER
  double mean_ratio = 0;                  ///< geometric, over the compared cells
  std::optional<Interval> mean_interval;  ///< by bootstrap over two cells or more
  ComparedCell worst;                     ///< the largest ratio

  double slower_share() const {
    return static_cast<double>(slower) / static_cast<double>(compared);
  }
};

/// FASTER and SLOWER become UNDECIDED where Benjamini-Hochberg over the sweep does not reject equal
/// speed, and in all cells of this session when there are doubts.
CompareSummary summarise_cells(std::vector<ComparedCell> cells, std::vector<std::string> doubts);

/// Exit codes of `compare`.
enum CompareExit : int {
  kNoRegression = 0,
  kRegression = 1,
  kNothingCompared = 2,
  kIncorrectOutput = 3,
  kNotDecided = 4,  ///< with --strict
};
CompareExit exit_code(const CompareSummary& summary, bool strict);

/// Cells with their intervals, the mean with the worst cell and the share of slower cells.
std::string summary_text(const CompareSummary& summary);

}  // namespace attn
