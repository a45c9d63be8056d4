// Rows to JSON, and the append-only file that holds them.
#include "harness/row.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <type_traits>

#include "harness/usage_error.h"

namespace attn {
namespace {

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

/// Whole nanoseconds: the timers resolve no more.
std::int64_t whole(double ns) { return std::llround(ns); }

Json to_json(const Summary& s) {
  Json samples = Json::array();
  for (const double ns : s.samples) samples.push_back(whole(ns));
  return {{"n", s.n},
          {"median", whole(s.median)},
          {"p5", whole(s.p5)},
          {"p25", whole(s.p25)},
          {"p75", whole(s.p75)},
          {"p95", whole(s.p95)},
          {"min", whole(s.min)},
          {"mad", whole(s.mad)},
          {"samples", samples}};
}

Json to_json(const Timing& t) {
  return {{"cold", to_json(t.cold)},
          {"hot", to_json(t.hot)},
          {"graph", t.graph ? to_json(*t.graph) : Json(nullptr)},
          {"host_launch", whole(t.host_launch_ns)},
          {"planning", whole(t.set_up.planning_ns)},
          {"first_call", whole(t.set_up.first_call_ns)},
          {"allocation", whole(t.set_up.allocation_ns)},
          {"flush_bytes", t.flush_bytes}};
}

Json to_json(const ClockUse& c) {
  Json mhz = nullptr;
  for (const double one : c.mhz) mhz.push_back(std::round(one));
  return {{"median_mhz", c.mhz.empty() ? Json(nullptr) : Json(std::round(summarise(c.mhz).median))},
          {"mhz", mhz},
          {"reasons", or_null(c.driver.reasons)},
          {"sm_mhz", or_null(c.driver.sm_mhz)},
          {"power_w", or_null(c.driver.power_w)},
          {"temperature_c", or_null(c.driver.temperature_c)}};
}

Json to_json(const MemoryUse& m) {
  return {{"inputs", m.inputs},
          {"outputs", m.outputs},
          {"workspace", m.workspace},
          {"hidden", or_null(m.hidden)},
          {"lower_bound", m.lower_bound}};
}

Json to_json(const SpeedOfLight& s) {
  return {{"pct", s.pct}, {"bound", s.bound}, {"limit_ns", whole(s.limit_ns)}};
}

Json to_json(const gpu::KernelResources& k) {
  return {{"name", k.name},
          {"regs", k.registers},
          {"spill", k.spill_bytes},
          {"smem", k.shared_bytes},
          {"ctas_per_sm", or_null(k.ctas_per_sm)},
          {"occupancy", or_null(k.occupancy)}};
}

template <class T>
Json json_or_null(const std::optional<T>& value) {
  return value ? to_json(*value) : Json(nullptr);
}

[[noreturn]] void cannot_write(const std::string& path) {
  throw UsageError("cannot write " + path + ": " + std::strerror(errno));
}

}  // namespace

Json to_json(const Check& c) {
  return {{"before", c.before},
          {"after", or_null(c.after)},
          {"nerr_max", std::isfinite(c.nerr_max) ? Json(c.nerr_max) : Json(nullptr)},
          {"at", c.at},
          {"ref", c.reference},
          {"bit_stable", c.bit_stable}};
}

Check check_from_json(const Json& json) {
  Check check{.before = json.at("before"),
              .nerr_max = json.at("nerr_max"),
              .at = json.at("at"),
              .reference = json.at("ref"),
              .bit_stable = json.at("bit_stable")};
  if (json.at("after").is_boolean()) check.after = json["after"];
  return check;
}

Json problem_columns(const std::vector<FieldValue>& fields) {
  Json shape = Json::object();
  Json options = Json::object();
  std::string dtype;
  for (const FieldValue& field : fields) {
    if (field.kind == FieldKind::kSize) {
      shape[field.name] = field.number;
    } else if (field.name == "dtype") {
      dtype = field.text;
    } else {
      options[field.name] = field.text;
    }
  }
  return {{"shape", shape}, {"dtype", dtype}, {"options", options}};
}

Json to_json(const CellRow& row) {
  const Json problem = problem_columns(row.fields);
  Json kernels = Json::array();
  for (const gpu::KernelResources& kernel : row.kernels) kernels.push_back(to_json(kernel));
  Json json{{"type", "cell"},
            {"key", row.key},
            {"mode", row.mode},
            {"op", row.op},
            {"suite", or_null(row.suite)},
            {"backend", row.backend},
            {"device", row.device},
            {"math", row.math},
            {"class", row.numerics},
            {"deterministic", row.deterministic},
            {"shape", problem["shape"]},
            {"dtype", problem["dtype"]},
            {"options", problem["options"]},
            {"data", row.family},
            {"status", name_of(row.status)},
            {"reason", or_null(row.reason)},
            {"check", json_or_null(row.check)},
            {"time", json_or_null(row.time)},
            {"clock", json_or_null(row.clock)},
            {"mem", json_or_null(row.memory)},
            {"plan", or_null(row.plan)},
            {"kernels", kernels},
            {"sol", json_or_null(row.sol)},
            {"flags", row.flags},
            {"repro", row.repro}};
  if (row.plugin) json["plugin"] = {{"file", row.plugin->name}, {"hash", row.plugin->hash}};
  return json;
}

std::string line_of(const Json& message) {
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<Json> read_rows(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw UsageError("cannot read " + path + ": " + std::strerror(errno));
  std::vector<Json> rows;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (file.eof()) break;  // no newline: torn
    const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("type"))
      throw UsageError(fmt::format("{}:{} is no row", path, number));
    if (row["type"] == "run" && row.value("schema", 0) != kSchemaVersion)
      throw UsageError(
          fmt::format("{}:{} has another schema than {}", path, number, kSchemaVersion));
    rows.push_back(row);
  }
  return rows;
}

RowFile::RowFile(const std::string& directory) : path_(directory + "/rows.jsonl") {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw UsageError("cannot make " + directory + ": " + error.message());
  if (std::filesystem::exists(path_)) read_rows(path_);  // refuses to append to something else
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor_ < 0) cannot_write(path_);
  off_t end = ::lseek(descriptor_, 0, SEEK_END);
  char last = '\n';
  while (end > 0 && ::pread(descriptor_, &last, 1, end - 1) == 1 && last != '\n') --end;
  if (::ftruncate(descriptor_, end) != 0) cannot_write(path_);
}

RowFile::~RowFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void RowFile::append(const Json& row) {
  const std::string line = line_of(row) + '\n';
  std::size_t written = 0;
  while (written < line.size()) {
    const ssize_t count = ::write(descriptor_, line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) cannot_write(path_);
    written += static_cast<std::size_t>(count);
  }
  if (::fsync(descriptor_) != 0) cannot_write(path_);
}

}  // namespace attn
