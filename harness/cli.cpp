// The command line.
#include "harness/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/operators.h"
#include "harness/report.h"
#include "harness/sweep.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

/// What `verify` and `bench` share.
struct SweepFlags {
  Selection selection;
  SweepOptions options;
  std::map<std::string, std::string> axes;  // by field
  std::string device = "auto";
  bool list = false;
  bool dry_run = false;
};

/// Every field of every operator is an axis.
void add_axes(CLI::App& command, SweepFlags& flags) {
  for (const auto& op : operators()) {
    for (const FieldValue& field : op->default_problem()->fields()) {
      if (flags.axes.count(field.name)) continue;
      command
          .add_option("--" + field.name, flags.axes[field.name],
                      field.help + "; 128,256 or 1k:64k:x2 sweep it")
          ->group("Fields");
    }
  }
}

void add_sweep_flags(CLI::App& command, SweepFlags& flags) {
  command.add_option("operator", flags.selection.op, "for example colreduce")->required();
  command.add_option("--suite", flags.selection.suite, "a named list of cases");
  command.add_option("--shape", flags.selection.shapes, "B4H8M4096N4096D128; may be repeated");
  command.add_option("--where", flags.selection.where, "keep cases with 'M<=N && B==1'");
  command.add_option("--backend", flags.selection.backends, "globs: 'mma*,!naive'");
  command.add_option("--data", flags.selection.families, "input families: normal,peaked,...");
  command.add_option("--device", flags.device, "auto, cuda or cpu")
      ->check(CLI::IsMember({"auto", "cuda", "cpu"}));
  command.add_option("--seed", flags.options.runner.seed, "of the input data");
  command.add_option("--out", flags.options.out, "directory of rows.jsonl");
  command.add_option("--time-budget", flags.options.time_budget_s, "540s: end before that")
      ->transform(CLI::AsNumberWithUnit(std::map<std::string, double>{{"s", 1}, {"m", 60}}))
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--cell-limit", flags.options.runner.cell_limit_s,
                  "seconds that a CPU cell may be predicted to take (default 10)")
      ->check(CLI::PositiveNumber);
  command.add_flag("--list", flags.list, "print the cells and stop");
  command.add_flag("--dry-run", flags.dry_run, "print cells, bytes and a rough time, and stop");
  add_axes(command, flags);
}

void print_cells(const std::vector<PlanItem>& plan) {
  for (const PlanItem& item : plan) fmt::print("{}\n", item.name());
}

/// Cells with the bytes that each needs, and a rough time.
void print_dry_run(const std::vector<PlanItem>& plan, const Machine& machine) {
  constexpr double kFixedSeconds = 0.05;
  double seconds = 0;
  for (const PlanItem& item : plan) {
    const AnyBackend backend = item.op->backends()[item.backend];
    const DeviceInfo& device =
        backend.info ? machine.device_for(*backend.info) : machine.main_device();
    const Support support = backend.info ? item.problem->supports(item.backend, device)
                                         : Support::no("not in this build");
    std::size_t bytes = support ? item.problem->workspace_bytes(item.backend, device) : 0;
    for (const TensorSpec& spec : item.problem->tensor_specs()) bytes += spec.storage_bytes();
    // Nominal rates of a naive kernel; the sweep itself predicts from what it sees.
    const double rate = device.space == MemorySpace::kHost ? 5e9 * device.threads : 5e13;
    if (support) seconds += kFixedSeconds + 20 * item.problem->work().mma_flops / rate;
    fmt::print("{} {:.3f} GiB{}{}\n", item.name(), static_cast<double>(bytes) / (1 << 30),
               support ? "" : " UNSUPPORTED: ", support.reason);
  }
  fmt::print("{} cells, roughly {:.0f} s\n", plan.size(), seconds);
}

int run_sweep(SweepFlags& flags, bool timed, std::vector<std::string> benchmark_flags) {
  for (const auto& [field, values] : flags.axes) {
    if (!values.empty()) flags.selection.axes.emplace_back(field, values);
  }
  flags.options.runner.timed = timed;
  std::vector<PlanItem> plan = make_plan(flags.selection);
  if (flags.list) {
    print_cells(plan);
    return kExitOk;
  }
  const Machine machine = find_machine(flags.device != "cpu");
  if (flags.device == "cuda" && !machine.gpu)
    throw UsageError("--device cuda needs a GPU: " + machine.why_no_gpu);
  if (flags.dry_run) {
    print_dry_run(plan, machine);
    return kExitOk;
  }
  return timed ? run_bench(std::move(plan), machine, flags.options, std::move(benchmark_flags))
               : run_verify(std::move(plan), machine, flags.options);
}

/// Takes Google Benchmark's flags out of the arguments.
std::vector<std::string> take_benchmark_flags(std::vector<std::string>& arguments) {
  std::vector<std::string> taken = {"attnbench"};
  std::vector<std::string> rest;
  for (std::string& argument : arguments)
    (argument.rfind("--benchmark_", 0) == 0 ? taken : rest).push_back(argument);
  arguments = rest;
  return taken;
}

int parse_and_run(std::vector<std::string> arguments) {
  SweepFlags verify_flags;
  SweepFlags bench_flags;
  bench_flags.options.argv = verify_flags.options.argv = arguments;
  std::vector<std::string> benchmark_flags = take_benchmark_flags(arguments);

  CLI::App app{"Backends of operators on the attention matrix: verified, timed, reported."};
  app.require_subcommand(1);
  std::string suite;
  CLI::App* list = app.add_subcommand("list", "operators, backends, suites and fields");
  list->add_option("--suite", suite, "print the cases of a suite");
  bool supports = false;
  list->add_flag("--supports", supports, "print which backend takes which feature");
  CLI::App* verify = app.add_subcommand("verify", "compare backends with the fp64 oracle");
  add_sweep_flags(*verify, verify_flags);
  CLI::App* bench = app.add_subcommand("bench", "verify, then time");
  add_sweep_flags(*bench, bench_flags);
  bench
      ->add_option("--sample-seconds", bench_flags.options.runner.sample_seconds,
                   "time spent on the cold samples of a cell")
      ->check(CLI::PositiveNumber);
  CLI::App* report = app.add_subcommand("report", "print rows as a table");
  std::vector<std::string> files;
  std::string format = "table";
  report->add_option("rows", files, "rows.jsonl files; default: the newest under results/");
  report->add_option("--format", format, "table, csv or markdown")
      ->check(CLI::IsMember({"table", "csv", "markdown"}));

  std::reverse(arguments.begin() + 1, arguments.end());  // CLI11 takes a vector from its end
  try {
    app.parse(std::vector<std::string>(arguments.begin() + 1, arguments.end()));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    throw UsageError(error.what());
  }
  if (*list) {
    if (supports) {
      print_supports(find_machine(/*want_gpu=*/true));
    } else {
      print_list(suite);
    }
  } else if (*report) {
    print_report(files, format);
  } else {
    return *bench ? run_sweep(bench_flags, true, std::move(benchmark_flags))
                  : run_sweep(verify_flags, false, {});
  }
  return kExitOk;
}

}  // namespace

int run_command_line(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  arguments.front() = std::filesystem::path(arguments.front()).filename();
  try {
    return parse_and_run(std::move(arguments));
  } catch (const UsageError& error) {
    fmt::print(stderr, "attnbench: {}\n", error.what());
    return kExitUsage;
  }
}

}  // namespace attn
