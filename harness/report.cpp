// `attnbench report` and `attnbench list`.
#include "harness/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>

#include "harness/report_html.h"
#include "harness/row.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> newest_files() {
  std::vector<std::string> files;
  if (!fs::is_directory("results")) return files;
  for (const auto& device : fs::directory_iterator("results")) {
    std::string newest;
    if (!device.is_directory()) continue;
    for (const auto& run : fs::directory_iterator(device.path())) {
      const fs::path rows = run.path() / "rows.jsonl";
      if (fs::exists(rows)) newest = std::max(newest, rows.string());
    }
    if (!newest.empty()) files.push_back(newest);
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string shape_text(const Json& row) {
  std::string text;
  for (const auto& [name, size] : row["shape"].items()) text += name + size.dump() + " ";
  const Json& options = row["options"];
  return text + row["dtype"].get<std::string>() + " " + options["reduction"].get<std::string>() +
         " " + options["mask"].get<std::string>();
}

std::string number(const Json& value, double unit, int digits) {
  return value.is_number() ? fmt::format("{:.{}f}", value.get<double>() * unit, digits) : "";
}

std::vector<std::string> columns_of(const Json& row) {
  const Json& time = row["time"];
  const Json cold = time.is_object() ? time["cold"] : Json::object();
  const Json check = row["check"].is_object() ? row["check"] : Json::object();
  const Json sol = row["sol"].is_object() ? row["sol"] : Json::object();
  const Json memory = row["mem"].is_object() ? row["mem"] : Json::object();
  const Json beyond =
      memory.empty() ? Json(nullptr)
                     : Json(memory["workspace"].get<double>() +
                            (memory["hidden"].is_number() ? memory["hidden"].get<double>() : 0));
  return {row["mode"],
          row["backend"],
          shape_text(row),
          row["data"],
          row["status"],
          number(cold.value("median", Json(nullptr)), 1e-6, 4),
          number(cold.value("p25", Json(nullptr)), 1e-6, 4),
          number(cold.value("p75", Json(nullptr)), 1e-6, 4),
          number(sol.value("pct", Json(nullptr)), 1, 1),
          number(beyond, 1.0 / (1 << 20), 3),
          number(check.value("nerr_max", Json(nullptr)), 1, 3),
          row["reason"].is_string() ? row["reason"].get<std::string>() : ""};
}

const std::vector<std::string> kHeader = {"mode",           "backend",    "problem", "data",
                                          "status",         "cold_ms",    "p25_ms",  "p75_ms",
                                          "percent_of_sol", "beyond_mib", "nerr",    "reason"};

std::string join(const std::vector<std::string>& cells,
                 const std::vector<std::size_t>& widths,
                 const std::string& separator) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i)
    line += (i ? separator : "") + fmt::format("{:{}}", cells[i], widths[i]);
  return line;
}

std::string csv_cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('"', at)) != std::string::npos; at += 2)
    text.insert(at, 1, '"');
  return text.find_first_of(",\"") == std::string::npos ? text : '"' + text + '"';
}

}  // namespace

void print_report(std::vector<std::string> files, const std::string& format) {
  if (files.empty()) files = newest_files();
  if (files.empty()) throw UsageError("there are no rows under results/ yet");
  Json runs = Json::array();
  Json cells = Json::array();
  std::map<std::string, std::size_t> place_of_key;
  for (const std::string& file : files) {
    for (Json& row : read_rows(file)) {
      if (row["type"] == "run") runs.push_back(row);
      if (row["type"] != "cell") continue;
      const auto [it, added] = place_of_key.try_emplace(row["key"], cells.size());
      if (added) cells.emplace_back();
      if (!runs.empty()) row["run"] = runs.size() - 1;
      cells[it->second] = std::move(row);
    }
  }
  if (format == "html") {
    fmt::print("{}", html_page(runs, cells));
    return;
  }
  std::vector<std::vector<std::string>> lines;
  for (const Json& row : cells) lines.push_back(columns_of(row));
  lines.insert(lines.begin(), kHeader);
  std::vector<std::size_t> widths(kHeader.size());
  for (auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (format == "csv") {
        line[i] = csv_cell(line[i]);
      } else {
        widths[i] = std::max(widths[i], line[i].size());
      }
    }
  }
  const bool markdown = format == "markdown";
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string text = join(lines[i], widths,
                                  format == "csv" ? ","
                                  : markdown      ? " | "
                                                  : "  ");
    fmt::print("{}\n", markdown ? "| " + text + " |" : text);
    if (!markdown || i > 0) continue;
    for (std::size_t c = 0; c < widths.size(); ++c) fmt::print("|---");
    fmt::print("|\n");
  }
}

void print_list(const Operators& operators, const std::string& suite) {
  for (const auto& op : operators) {
    if (!suite.empty()) {
      for (const AnySuite& one : op->suites()) {
        if (one.name != suite) continue;
        for (const SuiteCase& c : one.cases)
          fmt::print("{} {}\n", case_id(*c.problem),
                     kInputFamilyNames[static_cast<std::size_t>(c.family)]);
        return;
      }
      continue;
    }
    fmt::print("{}\n  backends, in reading order\n", op->name());
    for (const AnyBackend& backend : op->backends())
      fmt::print("    {:14} {}\n", backend.id,
                 backend.info ? backend.info->summary : "NOT_BUILT: this build leaves it out");
    fmt::print("  suites\n");
    for (const AnySuite& one : op->suites())
      fmt::print("    {:14} {} cases: {}\n", one.name, one.cases.size(), one.summary);
    fmt::print("  fields\n");
    for (const FieldValue& field : op->default_problem()->fields())
      fmt::print("    --{:12} {} (default {})\n", field.name, field.help, field.text);
  }
  if (!suite.empty()) throw UsageError("there is no suite '" + suite + "'");
}

void print_supports(const Operators& operators, const Machine& machine) {
  const DeviceInfo nominal{.space = MemorySpace::kDevice,
                           .name = "a GPU of sm_90, as there is none here",
                           .sm = 90,
                           .sm_count = 132,
                           .shared_bytes_per_block = 227 * 1024,
                           .l2_bytes = std::size_t{50} << 20,
                           .total_bytes = std::size_t{80} << 30};
  const DeviceInfo& gpu = machine.gpu ? machine.gpu->info : nominal;
  for (const auto& op : operators) {
    const std::vector<AnyFeature> features = op->features();
    if (features.empty()) continue;
    const std::vector<AnyBackend> backends = op->backends();
    fmt::print("{} on {}\n{:24}", op->name(), gpu.name, "");
    for (const AnyBackend& backend : backends) fmt::print(" {}", backend.id);
    std::vector<std::string> refusals;
    for (const AnyFeature& feature : features) {
      fmt::print("\n{:24}", feature.name);
      for (std::size_t i = 0; i < backends.size(); ++i) {
        const BackendInfo* info = backends[i].info;
        std::string answer = "-";  // not in this build
        if (info) {
          const bool on_host = info->memory == MemorySpace::kHost;
          const Support support = feature.problem->supports(i, on_host ? machine.cpu : gpu);
          answer = support ? "yes" : "no";
          if (!support)
            refusals.push_back(
                fmt::format("{}, {}: {}", backends[i].id, feature.name, support.reason));
        }
        fmt::print(" {:{}}", answer, backends[i].id.size());
      }
    }
    fmt::print("\n");
    for (const std::string& refusal : refusals) fmt::print("{}\n", refusal);
  }
}

}  // namespace attn
