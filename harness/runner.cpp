// The life of one cell.
#include "harness/runner.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>

#include "harness/blocks.h"
#include "harness/host_memory.h"
#include "harness/host_timer.h"
#include "harness/inference.h"
#include "harness/seed.h"
#include "harness/verify.h"
#include "harness/warm_up.h"

namespace attn {
namespace {

constexpr std::uint32_t kNanPattern = 0xFFFFFFFFu;            // NaN in every type
constexpr std::uint32_t kLargePattern = 0x7B7B7B7Bu;          // large and finite in every type
constexpr std::size_t kTimingBytes = std::size_t{512} << 20;  // flush buffer and its bookkeeping

constexpr int kLeastHostSamples = 5;
constexpr int kVerifyRuns = 3;  // over other inputs, then two that are compared
constexpr int kTimedHostRuns = kVerifyRuns + 1 + 2 * kLeastHostSamples;  // warm-up, cold, hot
constexpr double kTellingSeconds = 0.05;  // shorter runs say nothing of a backend's rate

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void run_once(const Launch& launch, MemorySpace space) {
  if (space == MemorySpace::kDevice) {
    gpu::run(launch);
  } else {
    launch.enqueue({});
  }
}

std::size_t free_bytes(MemorySpace space) {
  return space == MemorySpace::kDevice ? gpu::free_bytes() : host::free_bytes();
}

std::vector<std::int64_t> unravel(std::size_t index, const Extents& shape) {
  std::vector<std::int64_t> at(shape[3] == 1 ? 3 : 4);
  auto rest = static_cast<std::int64_t>(index);
  for (std::size_t axis = at.size(); axis-- > 0;) {
    const std::int64_t extent = std::max<std::int64_t>(1, shape[axis]);  // 0: no element is bad
    at[axis] = rest % extent;
    rest /= extent;
  }
  return at;
}

std::string repro_command(const PlanItem& item, const CellRow& row, const RunnerOptions& options) {
  return fmt::format("{} {} {} --backend {} --device {} {} --seed {}", options.call, row.mode,
                     row.op, row.backend, row.device, fmt::join(problem_flags(item), " "),
                     options.seed);
}

}  // namespace

struct Runner::Cell {
  const PlanItem& item;
  const BackendInfo& info;
  const DeviceInfo& device;
  Fixture& fixture;
  Buffer workspace;
  Launch launch{};
  SetUp set_up{};
  OutputCopies verified{};  // what was compared with the reference

  NumericsClass numerics() const { return launch.numerics.value_or(info.numerics); }
};

std::string row_key(const PlanItem& item, const Machine& machine, const RunnerOptions& options) {
  const std::string driver = machine.gpu ? machine.gpu->driver : "";
  const PluginFile* plugin = item.op->backends()[item.backend].plugin;
  return hex(fnv1a(fmt::format("{}|{}|{}|{}|{}|{}|{}{}", item.name(), item.suite,
                               options.timed ? "bench" : "verify", options.seed, build_id(),
                               machine.main_device().name, driver, plugin ? plugin->hash : "")));
}

CellRow describe_cell(const PlanItem& item, const Machine& machine, const RunnerOptions& options) {
  const BackendInfo* info = item.op->backends()[item.backend].info;
  const DeviceInfo& device = info ? machine.device_for(*info) : machine.main_device();
  CellRow row;
  row.key = row_key(item, machine, options);
  row.mode = options.timed ? "bench" : "verify";
  row.op = item.op->name();
  if (!item.suite.empty()) row.suite = item.suite;
  row.backend = item.backend_id();
  if (const PluginFile* plugin = item.op->backends()[item.backend].plugin) row.plugin = *plugin;
  row.device = device.space == MemorySpace::kDevice ? "cuda" : "cpu";
  row.fields = item.problem->fields();
  row.family = kInputFamilyNames[static_cast<std::size_t>(item.family)];
  if (info) {
    row.math = info->math;
    row.numerics = class_name(info->numerics, item.problem->input_dtype());
    row.deterministic = info->deterministic;
  }
  row.repro = repro_command(item, row, options);
  return row;
}

CellRow Runner::run_with(const PlanItem& item, const std::function<void(const TakeSamples&)>& use) {
  CellRow row = describe_cell(item, machine_, options_);
  bool usable = true;
  try {
    attempt(item, row, use);
  } catch (const std::bad_alloc&) {
    fail(row, Status::kOom, "memory ran out");
  } catch (const std::exception& error) {
    fail(row, Status::kCrash, error.what());
    usable = row.device != "cuda" || gpu::recover();
  }
  tainted_ = tainted_ || row.status == Status::kIncorrect;
  const AnyBackend backend = item.op->backends()[item.backend];
  if (backend.trim && usable) backend.trim();
  return row;
}

/// A row that an exception ended: what was timed before it counts for nothing.
void Runner::fail(CellRow& row, Status status, const std::string& reason) {
  row.status = status;
  row.reason = reason;
  row.time.reset();
  row.clock.reset();
  row.sol.reset();
  tainted_ = true;
  data_.forget();
}

/// Whether tensors and workspace fit the free memory; else the row says OOM.
bool Runner::fits(const PlanItem& item,
                  const DeviceInfo& device,
                  std::size_t workspace,
                  bool sampled,
                  CellRow& row) {
  double needed = static_cast<double>(workspace) + (sampled ? kTimingBytes : 0);
  for (const TensorSpec& spec : item.problem->tensor_specs()) {
    const int copies = is_written(spec.role) ? 2 : 0;  // of two runs, for comparison
    needed += static_cast<double>(spec.storage_elements) *
              static_cast<double>(size_of(spec.dtype)) *
              (copies + (data_.has_fixture(device.space) ? 0 : 1));
  }
  const auto available = static_cast<double>(free_bytes(device.space));
  if (needed <= 0.95 * available) return true;
  row.status = Status::kOom;
  row.reason =
      fmt::format("needs {:.2f} GiB of {:.2f} GiB free", needed / (1 << 30), available / (1 << 30));
  return false;
}

Support backend_takes(const PlanItem& item, const Machine& machine) {
  const BackendInfo* info = item.op->backends()[item.backend].info;
  if (!info) return Support::no("this build leaves the backend out");
  if (info->memory == MemorySpace::kDevice && !machine.gpu)
    return Support::no("needs a GPU: " + machine.why_no_gpu);
  return item.problem->supports(item.backend, machine.device_for(*info));
}

void Runner::attempt(const PlanItem& item,
                     CellRow& row,
                     const std::function<void(const TakeSamples&)>& use) {
  const AnyBackend backend = item.op->backends()[item.backend];
  if (const Support support = backend_takes(item, machine_); !support) {
    row.status = backend.info ? Status::kUnsupported : Status::kNotBuilt;
    row.reason = support.reason;
    return;
  }
  const DeviceInfo& device = machine_.device_for(*backend.info);
  const double flops = item.problem->work().mma_flops;
  const int runs = options_.timed ? kTimedHostRuns : kVerifyRuns;
  const double predicted = run_cost_.predict(row.backend, flops) * runs;
  if (device.space == MemorySpace::kHost && predicted > options_.cell_limit_s) {
    row.status = Status::kTimeout;
    row.reason = fmt::format("not run: predicted {:.0f} s, limit {:.0f} s", predicted,
                             options_.cell_limit_s);
    return;
  }
  std::optional<host::MemoryLimit> limit;
  if (device.space == MemorySpace::kHost) limit.emplace();
  data_.select(item);
  const std::size_t workspace_bytes = item.problem->workspace_bytes(item.backend, device);
  if (!fits(item, device, workspace_bytes, options_.timed || use, row)) return;

  Cell cell{item, *backend.info, device, data_.fixture(device.space),
            Buffer(device.space, workspace_bytes)};
  plan(cell);
  if (!cell.launch.note.empty()) row.plan = cell.launch.note;
  row.numerics = class_name(cell.numerics(), item.problem->input_dtype());
  verify(cell, row);
  for (const KernelUse& kernel : cell.launch.kernels) row.kernels.push_back(gpu::describe(kernel));
  if (row.status != Status::kOk && row.status != Status::kUnchecked) return;
  if (options_.profile) {
    gpu::profile(cell.launch, item.name());
  } else if (use) {
    use([&cell](bool cold, int count) { return sample(cell, cold, count); });
    run_afresh(cell);  // another backend may have left a right answer
    check_again(cell, row);
  } else if (options_.timed) {
    time(cell, row);
    if (cell.fixture.accumulates()) run_afresh(cell);  // the samples have added up
    check_again(cell, row);
  }
}

/// Plans and runs the launch over other inputs: what it computes once and keeps, in either, is not the
/// answer to the case's own.
void Runner::plan(Cell& cell) {
  cell.fixture.write_other_inputs();
  const Clock::time_point start = Clock::now();
  cell.launch =
      cell.item.problem->plan(cell.item.backend, cell.fixture.pointers(),
                              {cell.workspace.data(), cell.workspace.bytes()}, cell.device);
  const double planned = seconds_since(start);
  run_once(cell.launch, cell.device.space);
  cell.set_up = {.allocation_ns = cell.workspace.bytes() > 0 ? cell.workspace.allocation_ns() : 0,
                 .planning_ns = 1e9 * planned,
                 .first_call_ns = 1e9 * (seconds_since(start) - planned)};
  cell.fixture.restore_inputs();
}

/// Two runs over different poison: equal bits, intact surroundings, and the right answer.
void Runner::verify(Cell& cell, CellRow& row) {
  const AnyBackend backend = cell.item.op->backends()[cell.item.backend];
  const auto run_over = [&](std::uint32_t pattern) {
    cell.fixture.poison(pattern);
    cell.workspace.poison(pattern);
    const Clock::time_point start = Clock::now();
    run_once(cell.launch, cell.device.space);
    const double seconds = seconds_since(start);
    if (seconds > kTellingSeconds)
      run_cost_.observe(row.backend, cell.item.problem->work().mma_flops, seconds);
  };
  run_over(kNanPattern);
  const OutputCopies first = cell.fixture.copy_outputs();
  if (backend.trim) backend.trim();
  const bool on_host = cell.device.space == MemorySpace::kHost;
  const host::MemoryPeak peak;
  const std::size_t free_before = on_host ? 0 : gpu::free_bytes();
  run_over(kLargePattern);
  const std::size_t free_after = on_host ? 0 : gpu::free_bytes();
  row.memory = {.inputs = cell.fixture.bytes(false),
                .outputs = cell.fixture.bytes(true),
                .workspace = cell.workspace.bytes(),
                .hidden = peak.growth(),
                .lower_bound = static_cast<std::size_t>(cell.item.problem->work().bytes)};
  if (!on_host) row.memory->hidden = free_before > free_after ? free_before - free_after : 0;
  cell.verified = cell.fixture.copy_outputs();

  const auto incorrect = [&](const std::string& why) {
    row.status = Status::kIncorrect;
    row.reason = why;
  };
  Check check;
  check.bit_stable = same_bits(first.views(), cell.verified.views());
  if (const auto damage = cell.fixture.damage()) return incorrect(*damage);
  if (!cell.workspace.guards_intact()) return incorrect("wrote outside its workspace");

  const std::uint64_t hash = fnv1a(hex(cell.verified.hash()), cell.fixture.inputs_hash());
  const auto known = verified_.find(cell.item.name());
  if (known != verified_.end() && known->second.hash == hash && check.bit_stable) {
    row.check = known->second.check;
    return;
  }
  const AnyReference* reference = data_.reference();
  if (!reference) {
    row.status = Status::kUnchecked;
    row.reason = "too big for an oracle on this machine";
    return;
  }
  const ErrorReport report =
      compare_with_reference(cell.verified.views(), *reference, cell.numerics());
  check.before = report.ok;
  check.nerr_max = report.nerr_max;
  check.at = unravel(report.worst, cell.verified.specs[report.output].shape);
  check.reference = reference->computed_by();
  row.check = check;
  if (!report.ok) return incorrect(report.complaint);
  if (cell.info.deterministic && !check.bit_stable)
    return incorrect("two runs over different poison gave different bits");
  if (!check.bit_stable) row.flags.emplace_back("nondeterministic");
  if (check.bit_stable) verified_[cell.item.name()] = {hash, check};
}

gpu::Samples Runner::sample(const Cell& cell, bool cold, int count) {
  return cell.device.space == MemorySpace::kDevice
             ? gpu::time(cell.launch, cold, count)
             : host::time(cell.launch, cold, count, cell.device.l2_bytes);
}

/// A sample over poison and the in-out tensors' input values.
void Runner::run_afresh(const Cell& cell) {
  cell.fixture.poison(kNanPattern);
  sample(cell, /*cold=*/false, 1);
}

/// Runs the launch until it is warm; returns the seconds that one run took.
double Runner::warm_up(const Cell& cell, CellRow& row) {
  constexpr double kLongSeconds = 5e-3;
  const bool on_device = cell.device.space == MemorySpace::kDevice;
  const Clock::time_point start = Clock::now();
  double seconds = 0;
  const WarmStep step = [&]() -> std::optional<double> {
    if (!on_device) {
      const Clock::time_point run_start = Clock::now();
      run_once(cell.launch, cell.device.space);
      seconds = seconds_since(run_start);
      return std::nullopt;  // the rule speaks of the SMs' clock
    }
    const int runs = seconds == 0 || seconds > kLongSeconds ? 1 : 6;
    const gpu::Samples samples = gpu::time(cell.launch, /*cold=*/false, runs);
    seconds = 1e-9 * summarise(samples.ns).median;
    return samples.mhz.empty() ? std::nullopt : std::optional(mean(samples.mhz));
  };
  if (!attn::warm_up(step, [&] { return seconds_since(start); }))
    row.flags.emplace_back(kClockUnsteady);
  return seconds;
}

void Runner::time(Cell& cell, CellRow& row) {
  const bool on_device = cell.device.space == MemorySpace::kDevice;
  const double seconds = warm_up(cell, row) + (on_device ? 1e-4 : 0.02);  // + flush
  const int least = on_device ? 15 : kLeastHostSamples;
  const int count = std::clamp(static_cast<int>(options_.sample_seconds / seconds), least, 100);

  gpu::Samples cold = sample(cell, true, count);
  if (on_device && !nvml_) nvml_.emplace();
  row.clock = {.mhz = cold.mhz, .driver = on_device ? nvml_->state() : NvmlState{}};
  const gpu::Samples hot = sample(cell, false, std::max(count / 2, least));
  if (!cold.gated || !hot.gated) row.flags.emplace_back("ungated");
  if (!is_random(cell.item.family)) row.flags.emplace_back("not_comparable");
  row.time = {.cold = summarise(cold.ns),
              .hot = summarise(hot.ns),
              .graph = std::nullopt,
              .host_launch_ns = summarise(cold.host_launch_ns).median,
              .set_up = cell.set_up,
              .flush_bytes = cold.flush_bytes};
  if (options_.graph && on_device) time_graph(cell, row, count);
  const auto noisy = [&](const std::string& why) {
    if (row.status != Status::kOk) return;
    row.status = Status::kNoisy;
    row.reason = why;
  };
  if (cold.flush_bytes < 2 * cell.device.l2_bytes)
    noisy("cold is unproven: less than twice the L2 was written before each sample");
  const std::uint64_t reasons = row.clock->driver.reasons.value_or(0);
  if (hardware_slowdown(reasons)) noisy("the hardware slowed its clock down");
  if (power_capped(reasons)) row.flags.emplace_back("power_capped");
  if (!ceilings_ || &cell.device != &machine_.main_device()) return;
  const double median = row.time->cold.median;
  if (median < 10 * ceilings_->null_kernel_ns) row.flags.emplace_back("floor_limited");
  row.sol = speed_of_light(cell.item, median);
  if (row.sol->pct > 105) noisy("faster than the measured ceilings allow");
}

/// Replays the captured launch over two patterns of poison, then times the replay. The second run
/// finds what a launch keeps from its host's side, such as a counter that every call moves on.
void Runner::time_graph(Cell& cell, CellRow& row, int count) {
  gpu::Graph graph;
  try {
    graph = gpu::capture(cell.launch);
  } catch (const std::runtime_error&) {
    row.flags.emplace_back("not_capturable");
    return;
  }
  const auto incorrect = [&](const std::string& why) {
    row.status = Status::kIncorrect;
    row.reason = why;
  };
  if (graph.kernels == 0) return incorrect("its graph holds no kernel");
  for (const std::uint32_t pattern : {kNanPattern, kLargePattern}) {
    cell.fixture.poison(pattern);
    cell.workspace.poison(pattern);
    gpu::run(graph.replay);
    if (row.check && !leaves_verified_output(cell))
      return incorrect("a replay of its graph left another output than the verified one");
  }
  row.time->graph = summarise(gpu::time(graph.replay, /*cold=*/true, count).ns);
}

/// The output is the verified one, or, where bits may differ, at least right.
bool Runner::leaves_verified_output(Cell& cell) {
  const std::vector<OutputView> now = cell.fixture.outputs();
  return same_bits(now, cell.verified.views()) ||
         (!cell.info.deterministic &&
          compare_with_reference(now, *data_.reference(), cell.numerics()).ok);
}

/// So must be that of the last timed sample.
void Runner::check_again(Cell& cell, CellRow& row) {
  if (!row.check) return;
  row.check->after = leaves_verified_output(cell);
  if (*row.check->after || row.status == Status::kIncorrect) return;
  row.status = Status::kIncorrect;
  row.reason = "the last timed run left another output than the verified one";
}

SpeedOfLight Runner::speed_of_light(const PlanItem& item, double ns) const {
  const Work work = item.problem->work();
  const Ceilings& c = *ceilings_;
  const bool tensor_cores = item.problem->input_dtype() != DType::kF32 && c.mma_flops > 0;
  const auto limit = [](double amount, double rate) { return rate > 0 ? 1e9 * amount / rate : 0; };
  const std::pair<const char*, double> limits[] = {
      {"memory", limit(work.bytes, c.copy_Bps)},
      {"mma", limit(work.mma_flops, tensor_cores ? c.mma_flops : c.ffma_flops)},
      {"exp", limit(work.exponentials, c.ex2_per_s)},
      {"launch", c.null_kernel_ns}};
  const auto& [bound, limit_ns] = *std::max_element(
      std::begin(limits), std::end(limits), [](auto& a, auto& b) { return a.second < b.second; });
  return {.pct = 100 * limit_ns / ns, .bound = bound, .limit_ns = limit_ns};
}

}  // namespace attn
