// Calibrations: made from cells, found in rows.
#include "harness/calibration.h"

#include <algorithm>
#include <filesystem>

namespace attn {

Calibration calibration_of(const std::vector<ComparedCell>& cells, const std::string& session) {
  Calibration calibration{.session = session};
  for (const ComparedCell& cell : cells) {
    if (!cell.compared()) continue;
    ++calibration.cells;
    calibration.same += cell.verdict == Verdict::kSame;
    calibration.floor = std::max(calibration.floor, std::max(cell.ratio, 1 / cell.ratio) - 1);
  }
  return calibration;
}

std::optional<Calibration> find_calibration(const Json& run,
                                            bool cold,
                                            const std::vector<std::string>& files) {
  const auto is_here = [&](const Json& row) {
    return row.at("device").at("name") == run.at("device").at("name") &&
           row.at("driver") == run.at("driver");
  };
  std::optional<Calibration> newest;
  for (const std::string& file : files) {
    std::string here;  // the run of this machine that the lines belong to
    for (const Json& row : read_rows(file)) {
      if (row["type"] == "run") here = is_here(row) ? row.value("run_id", "") : "";
      if (row["type"] != "event" || here.empty() || row.value("session", "") != here ||
          !row.value("proven", false) || row.value("level", "") != kClaim.name)
        continue;
      const Json found = row.value("calibration", Json());
      if (found.is_object() && found.at("session") == here &&  // made there, not taken over
          found.at("cache") == (cold ? "cold" : "hot"))
        newest = {found.at("floor"), found.at("cells"), found.at("same"), here};
    }
  }
  return newest;
}

std::vector<std::string> committed_rows(const Machine& machine) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  const fs::path root = fs::path("results") / device_slug(machine);
  if (!fs::is_directory(root)) return files;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (fs::exists(entry.path() / "rows.jsonl")) files.push_back(entry.path() / "rows.jsonl");
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace attn
