// The rows that the harness writes, schema 1; results/README.md and results/row.schema.json describe
// them. Times in ns, sizes in bytes, missing values null.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/core/fields.h"
#include "harness/core/operator.h"
#include "harness/core/status.h"
#include "harness/gpu.h"
#include "harness/nvml.h"
#include "harness/statistics.h"

namespace attn {

using Json = nlohmann::ordered_json;

inline constexpr int kSchemaVersion = 1;

/// What was found when the output was compared with the reference.
struct Check {
  bool before = false;           ///< ok before timing
  std::optional<bool> after{};   ///< ok on the output of the last timed sample
  double nerr_max = 0;           ///< largest error / tolerance
  std::vector<std::int64_t> at;  ///< where, as an index of the output
  std::string reference;         ///< "cpu_f64" or "gpu_f64"
  bool bit_stable = false;       ///< two runs over different poison gave the same bits
};

/// What a caller pays once and no sample holds, host time in ns.
struct SetUp {
  double allocation_ns = 0;  ///< of the workspace; 0 where none is asked for
  double planning_ns = 0;
  double first_call_ns = 0;  ///< from the call to its end: loads what the launch needs
};

struct Timing {
  Summary cold;
  Summary hot;
  std::optional<Summary> graph;  ///< cold replays of the captured launch, where asked for
  double host_launch_ns = 0;
  SetUp set_up;
  std::size_t flush_bytes = 0;
};

/// The clock of the cold samples, and what the driver said right after them.
struct ClockUse {
  std::vector<double> mhz;  ///< one per sample; empty where nothing tells
  NvmlState driver;
};

struct MemoryUse {
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  std::size_t workspace = 0;
  std::optional<std::size_t> hidden;  ///< taken besides; on a CPU the peak of a run, to a MiB or so
  std::size_t lower_bound = 0;        ///< bytes that any implementation moves
};

/// How close the cold median is to the machine's limit.
struct SpeedOfLight {
  double pct = 0;
  std::string bound;  ///< memory, mma, exp or launch
  double limit_ns = 0;
};

struct CellRow {
  std::string key;
  std::string mode;  ///< verify or bench
  std::string op;
  std::optional<std::string> suite;
  std::string backend;
  std::optional<PluginFile> plugin;  ///< where it came from, if from outside the program
  std::string device;                ///< cuda or cpu
  std::string math;
  std::string numerics;
  bool deterministic = true;
  std::vector<FieldValue> fields;
  std::string family;
  Status status = Status::kOk;
  std::optional<std::string> reason;
  std::optional<Check> check;
  std::optional<Timing> time;
  std::optional<ClockUse> clock;
  std::optional<MemoryUse> memory;
  std::optional<std::string> plan;
  std::vector<gpu::KernelResources> kernels;
  std::optional<SpeedOfLight> sol;
  std::vector<std::string> flags;
  std::string repro;
};

/// The columns `shape`, `dtype` and `options` of a problem.
Json problem_columns(const std::vector<FieldValue>& fields);

Json to_json(const CellRow& row);
Json to_json(const Check& check);
Check check_from_json(const Json& json);

/// The message as one line of text; bytes that are no UTF-8 are replaced.
std::string line_of(const Json& message);

/// Reads a rows file. A last line without its newline is a torn write and is ignored; any other line
/// that is no row of this schema throws UsageError naming file and line.
std::vector<Json> read_rows(const std::string& path);

/// Appends rows to `directory`/rows.jsonl, each flushed to the disk before `append` returns, so that
/// a kill loses at most the row in flight.
class RowFile {
 public:
  /// Makes the directory where needed and cuts a torn last line off; throws UsageError when the
  /// file cannot be written.
  explicit RowFile(const std::string& directory);
  ~RowFile();
  RowFile(const RowFile&) = delete;
  RowFile& operator=(const RowFile&) = delete;

  void append(const Json& row);
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace attn
