// Two rows files side by side: what rows of one run each can support, and no more.
#include <fmt/format.h>

#include <map>
#include <set>

#include "harness/compare.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

/// The timed cells of a file, newest row of a problem and backend, and where they were measured.
struct TimedRows {
  std::map<std::string, Json> cells;  ///< by backend and problem
  std::set<std::string> backends;
  std::string environment;
};

/// Results are comparable only where this is equal; plots/rows.py has the same rule.
std::string environment_of(const Json& run) {
  const Json& device = run.at("device");
  std::string text =
      fmt::format("{} {}, MIG {}, driver {}, CUDA {}", device.at("kind").get<std::string>(),
                  device.at("name").get<std::string>(), device.at("mig").dump(),
                  run.at("driver").dump(), run.at("cuda").dump());
  if (device["kind"] == "cpu")
    text += fmt::format(", {} threads", run.at("host").at("threads").dump());
  return text;
}

std::string problem_of(const Json& cell) {
  return fmt::format("{} {} {} {} {}", cell.at("op").dump(), cell.at("shape").dump(),
                     cell.at("dtype").dump(), cell.at("options").dump(), cell.at("data").dump());
}

TimedRows read_timed(const std::string& path) {
  TimedRows rows;
  try {
    for (const Json& row : read_rows(path)) {
      if (row["type"] == "run") {
        const std::string environment = environment_of(row);
        if (!rows.environment.empty() && environment != rows.environment)
          throw UsageError(fmt::format("UNCOMPARABLE: {} holds rows of {} and of {}", path,
                                       rows.environment, environment));
        rows.environment = environment;
      }
      if (row["type"] != "cell" || row.at("mode") != "bench" || row.at("status") != "OK") continue;
      const std::string backend = row.at("backend");
      rows.backends.insert(backend);
      rows.cells[fmt::format("{} {}", backend, problem_of(row))] = row;
    }
  } catch (const Json::exception& error) {
    throw UsageError(fmt::format("{} cannot be read: {}", path, error.what()));
  }
  if (rows.cells.empty()) throw UsageError(fmt::format("{} holds no timed cell", path));
  return rows;
}

double cold_median(const Json& cell) { return cell.at("time").at("cold").at("median"); }

ComparedCell side_by_side(const Json& a, const Json& b) {
  ComparedCell cell;
  cell.key = b.at("key");
  cell.name = fmt::format("{} / {} {}", a.at("backend").get<std::string>(),
                          b.at("backend").get<std::string>(), problem_name(b));
  cell.median_a_ns = cold_median(a);
  cell.median_b_ns = cold_median(b);
  cell.ratio = cell.median_b_ns / cell.median_a_ns;
  cell.reason = "not measured in turns";
  return cell;
}

}  // namespace

int compare_files(const std::string& path_a, const std::string& path_b, bool strict) {
  const TimedRows a = read_timed(path_a);
  const TimedRows b = read_timed(path_b);
  if (a.environment != b.environment)
    throw UsageError(fmt::format("UNCOMPARABLE: {} is of {}, {} of {}", path_a, a.environment,
                                 path_b, b.environment));
  // One backend each: that one against the other. Else every backend against itself.
  const bool across = a.backends.size() == 1 && b.backends.size() == 1;
  std::vector<ComparedCell> cells;
  for (const auto& [key, cell_a] : a.cells) {
    const auto it =
        b.cells.find(across ? fmt::format("{} {}", *b.backends.begin(), problem_of(cell_a)) : key);
    if (it != b.cells.end()) cells.push_back(side_by_side(cell_a, it->second));
  }
  if (cells.empty())
    throw UsageError(fmt::format("no timed cell is in both {} and {}", path_a, path_b));
  const CompareSummary summary = summarise_cells(std::move(cells), {});
  fmt::print("A {}, B {}, medians of cold samples of one run each; B/A is the ratio of times\n{}",
             path_a, path_b, summary_text(summary));
  return exit_code(summary, strict);
}

}  // namespace attn
