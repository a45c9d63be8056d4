// The life of one cell.
#include "harness/runner.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>

#include "harness/host_memory.h"
#include "harness/host_timer.h"
#include "harness/seed.h"
#include "harness/verify.h"

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

std::string repro_command(const PlanItem& item, const CellRow& row, std::uint64_t seed) {
  return fmt::format("attnbench {} {} --backend {} --device {} {} --seed {}", row.mode, row.op,
                     row.backend, row.device, fmt::join(problem_flags(item), " "), seed);
}

}  // namespace

struct Runner::Cell {
  const PlanItem& item;
  const BackendInfo& info;
  const DeviceInfo& device;
  Fixture& fixture;
  Buffer workspace;
  Launch launch{};
  HostOutputs verified{};  // what was compared with the reference
};

std::string row_key(const PlanItem& item, const Machine& machine, const RunnerOptions& options) {
  const std::string driver = machine.gpu ? machine.gpu->driver : "";
  return hex(fnv1a(fmt::format("{}|{}|{}|{}|{}|{}|{}", item.name(), item.suite,
                               options.timed ? "bench" : "verify", options.seed, build_id(),
                               machine.main_device().name, driver)));
}

CellRow Runner::describe(const PlanItem& item,
                         const BackendInfo* info,
                         const DeviceInfo& device) const {
  CellRow row;
  row.key = row_key(item, machine_, options_);
  row.mode = options_.timed ? "bench" : "verify";
  row.op = item.op->name();
  if (!item.suite.empty()) row.suite = item.suite;
  row.backend = item.backend_id();
  row.device = device.space == MemorySpace::kDevice ? "cuda" : "cpu";
  row.fields = item.problem->fields();
  row.family = kInputFamilyNames[static_cast<std::size_t>(item.family)];
  if (info) {
    row.math = info->math;
    row.numerics = class_name(info->numerics, item.problem->input_dtype());
    row.deterministic = info->deterministic;
  }
  row.repro = repro_command(item, row, options_.seed);
  return row;
}

CellRow Runner::run_with(const PlanItem& item, const std::function<void(const TakeSamples&)>& use) {
  const AnyBackend backend = item.op->backends()[item.backend];
  const DeviceInfo& device =
      backend.info ? machine_.device_for(*backend.info) : machine_.main_device();
  CellRow row = describe(item, backend.info, device);
  try {
    attempt(item, row, use);
  } catch (const std::bad_alloc&) {
    fail(row, Status::kOom, "memory ran out");
  } catch (const std::exception& error) {
    fail(row, Status::kCrash, error.what());
    device_lost_ = row.device == "cuda" && !gpu::recover();
  }
  if (backend.trim && !device_lost_) backend.trim();
  return row;
}

/// A row that an exception ended: what was timed before it counts for nothing.
void Runner::fail(CellRow& row, Status status, const std::string& reason) {
  row.status = status;
  row.reason = reason;
  row.time.reset();
  row.sol.reset();
  data_.forget();
}

/// Whether tensors and workspace fit the free memory; else the row says OOM.
bool Runner::fits(const PlanItem& item,
                  const DeviceInfo& device,
                  std::size_t workspace,
                  bool sampled,
                  CellRow& row) {
  double needed = static_cast<double>(workspace) + (sampled ? kTimingBytes : 0);
  if (!data_.has_fixture(device.space)) {
    for (const TensorSpec& spec : item.problem->tensor_specs())
      needed +=
          static_cast<double>(spec.storage_elements) * static_cast<double>(size_of(spec.dtype));
  }
  const auto available = static_cast<double>(free_bytes(device.space));
  if (needed <= 0.95 * available) return true;
  row.status = Status::kOom;
  row.reason =
      fmt::format("needs {:.2f} GiB of {:.2f} GiB free", needed / (1 << 30), available / (1 << 30));
  return false;
}

void Runner::attempt(const PlanItem& item,
                     CellRow& row,
                     const std::function<void(const TakeSamples&)>& use) {
  const AnyBackend backend = item.op->backends()[item.backend];
  if (!backend.info) {
    row.status = Status::kNotBuilt;
    row.reason = "this build leaves the backend out";
    return;
  }
  const DeviceInfo& device = machine_.device_for(*backend.info);
  const Support support = backend.info->memory == MemorySpace::kDevice && !machine_.gpu
                              ? Support::no("needs a GPU: " + machine_.why_no_gpu)
                              : item.problem->supports(item.backend, device);
  if (!support) {
    row.status = Status::kUnsupported;
    row.reason = support.reason;
    return;
  }
  const double flops = item.problem->work().mma_flops;
  const int runs = options_.timed ? kTimedHostRuns : kVerifyRuns;
  const double predicted = run_cost_.predict(row.backend, flops) * runs;
  if (device.space == MemorySpace::kHost && predicted > options_.cell_limit_s) {
    row.status = Status::kTimeout;
    row.reason = fmt::format("not run: predicted {:.0f} s, limit {:.0f} s", predicted,
                             options_.cell_limit_s);
    return;
  }
  data_.select(item);
  const std::size_t workspace_bytes = item.problem->workspace_bytes(item.backend, device);
  if (!fits(item, device, workspace_bytes, options_.timed || use, row)) return;

  Cell cell{item, *backend.info, device, data_.fixture(device.space),
            Buffer(device.space, workspace_bytes)};
  plan(cell);
  if (!cell.launch.note.empty()) row.plan = cell.launch.note;
  verify(cell, row);
  for (const KernelUse& kernel : cell.launch.kernels) row.kernels.push_back(gpu::describe(kernel));
  if (row.status != Status::kOk && row.status != Status::kUnchecked) return;
  if (use) {
    warm_up(cell);
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
  cell.launch =
      cell.item.problem->plan(cell.item.backend, cell.fixture.pointers(),
                              {cell.workspace.data(), cell.workspace.bytes()}, cell.device);
  run_once(cell.launch, cell.device.space);
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
    return cell.fixture.outputs_to_host();
  };
  const HostOutputs first = run_over(kNanPattern);
  if (backend.trim) backend.trim();
  const std::size_t free_before = free_bytes(cell.device.space);
  cell.verified = run_over(kLargePattern);
  const std::size_t free_after = free_bytes(cell.device.space);
  row.memory = {.inputs = cell.fixture.bytes(false),
                .outputs = cell.fixture.bytes(true),
                .workspace = cell.workspace.bytes(),
                .hidden = std::nullopt,
                .lower_bound = static_cast<std::size_t>(cell.item.problem->work().bytes)};

  if (cell.device.space == MemorySpace::kDevice)  // other programs move a CPU's free memory
    row.memory->hidden = free_before > free_after ? free_before - free_after : 0;

  const auto incorrect = [&](const std::string& why) {
    row.status = Status::kIncorrect;
    row.reason = why;
  };
  Check check;
  check.bit_stable = first == cell.verified;
  if (const auto damage = cell.fixture.damage()) return incorrect(*damage);
  if (!cell.workspace.guards_intact()) return incorrect("wrote outside its workspace");

  const AnyReference* reference = data_.reference();
  if (!reference) {
    row.status = Status::kUnchecked;
    row.reason = "too big for an oracle on this machine";
    return;
  }
  const ErrorReport report =
      compare_with_reference(cell.verified.views(), *reference, cell.info.numerics);
  check.before = report.ok;
  check.nerr_max = report.nerr_max;
  check.at = unravel(report.worst, cell.verified.specs[report.output].shape);
  check.reference = reference->computed_by();
  row.check = check;
  if (!report.ok) return incorrect(report.complaint);
  if (cell.info.deterministic && !check.bit_stable)
    return incorrect("two runs over different poison gave different bits");
  if (!check.bit_stable) row.flags.emplace_back("nondeterministic");
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
double Runner::warm_up(const Cell& cell) {
  constexpr double kWarmUpSeconds = 0.05;
  const Clock::time_point start = Clock::now();
  int warm_ups = 0;
  do {
    run_once(cell.launch, cell.device.space);
    ++warm_ups;
  } while (seconds_since(start) < kWarmUpSeconds);
  return seconds_since(start) / warm_ups;
}

void Runner::time(Cell& cell, CellRow& row) {
  const bool on_device = cell.device.space == MemorySpace::kDevice;
  const double seconds = warm_up(cell) + (on_device ? 1e-4 : 0.02);  // + flush
  const int least = on_device ? 15 : kLeastHostSamples;
  const int count = std::clamp(static_cast<int>(options_.sample_seconds / seconds), least, 100);

  gpu::Samples cold = sample(cell, true, count);
  const gpu::Samples hot = sample(cell, false, std::max(count / 2, least));
  if (cold.flush_bytes < 2 * cell.device.l2_bytes) row.flags.emplace_back("cold_unproven");
  if (!cold.gated || !hot.gated) row.flags.emplace_back("ungated");
  if (!is_random(cell.item.family)) row.flags.emplace_back("not_comparable");
  row.time = {.cold = summarise(cold.ns),
              .hot = summarise(hot.ns),
              .host_launch_ns = summarise(cold.host_launch_ns).median,
              .flush_bytes = cold.flush_bytes};
  if (!ceilings_ || &cell.device != &machine_.main_device()) return;
  const double median = row.time->cold.median;
  if (median < 10 * ceilings_->null_kernel_ns) row.flags.emplace_back("floor_limited");
  row.sol = speed_of_light(cell.item, median);
  if (row.sol->pct > 105 && row.status == Status::kOk) {
    row.status = Status::kNoisy;
    row.reason = "faster than the measured ceilings allow";
  }
}

/// The output of the last timed sample must still be the verified one, or at least right.
void Runner::check_again(Cell& cell, CellRow& row) {
  if (!row.check) return;
  const HostOutputs now = cell.fixture.outputs_to_host();
  row.check->after =
      now == cell.verified ||
      (!cell.info.deterministic &&
       compare_with_reference(now.views(), *data_.reference(), cell.info.numerics).ok);
  if (*row.check->after) return;
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
