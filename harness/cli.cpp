// The command line.
#include "harness/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/compare.h"
#include "harness/operators.h"
#include "harness/plugin/callable.h"
#include "harness/plugin/plugin_operator.h"
#include "harness/plugin/revision.h"
#include "harness/report.h"
#include "harness/sweep.h"
#include "harness/usage_error.h"

namespace attn {
namespace {

/// What `verify`, `bench` and `compare` share.
struct SweepFlags {
  Selection selection;
  SweepOptions options;
  std::map<std::string, std::string> axes;  // by field
  std::string device = "auto";
  bool list = false;
  bool dry_run = false;
  bool profile = false;
  bool serve = false;  // the cells to the sweep that started this process
};

/// What `compare` takes besides.
struct CompareFlags {
  SweepFlags sweep;
  CompareOptions options;
  std::string a;
  std::string b;
  std::string level = "provisional";
  std::string cache = "cold";
  bool serve = false;    // as a worker
  std::string of_suite;  // the suite that the worker's cell stands in
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

void add_plugin_flag(CLI::App& command, std::vector<std::string>& files) {
  command
      .add_option("--plugin", files,
                  "./libmine.so or, in Python, module:function: more backends; may be repeated")
      ->allow_extra_args(false);
}

/// Which cells, on what, until when, to where.
void add_selection_flags(CLI::App& command, SweepFlags& flags) {
  add_plugin_flag(command, flags.selection.plugins);
  command.add_option("--suite", flags.selection.suite, "a named list of cases");
  command.add_option("--shape", flags.selection.shapes, "B4H8M4096N4096D128; may be repeated");
  command.add_option("--where", flags.selection.where, "keep cases with 'M<=N && B==1'");
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

void add_sweep_flags(CLI::App& command, SweepFlags& flags) {
  command.add_option("operator", flags.selection.op, "for example colreduce")->required();
  command.add_option(
      "--backend", flags.selection.backends,
      "globs: 'mma*,!naive'; id@revision: as built from it; module:function: in Python");
  command
      .add_option("--timeout", flags.options.timeout_s,
                  "seconds after which a cell's process is ended (default 300)")
      ->check(CLI::PositiveNumber);
  command.add_flag("--in-process", flags.options.in_process,
                   "run cells in this process, for debuggers, profilers and sanitizers");
  command.add_flag(std::string(kServeFlag), flags.serve)->group("");
  add_selection_flags(command, flags);
}

void add_compare_flags(CLI::App& command, CompareFlags& flags) {
  command.add_option("arm_a", flags.a, "a backend, backend@revision, or a rows.jsonl file")
      ->required();
  command.add_option("arm_b", flags.b, "what is compared with it")->required();
  command.add_option("--op", flags.sweep.selection.op, "default: the first that has backend A");
  command
      .add_option("--level", flags.level,
                  "provisional: one process, 12 blocks; claim: 5 processes, 8 blocks each")
      ->check(CLI::IsMember({"provisional", "claim"}));
  command.add_option("--cache", flags.cache, "cold or hot")->check(CLI::IsMember({"cold", "hot"}));
  command
      .add_option("--cell-seconds", flags.options.cell_seconds,
                  "time that a cell may take to become precise (default 60); its minimum it gets")
      ->check(CLI::PositiveNumber);
  command
      .add_option("--timeout", flags.options.arms.timeout_s,
                  "seconds that an arm may take for a block or its verification (default 300)")
      ->check(CLI::PositiveNumber);
  command.add_flag("--calibrate", flags.options.calibrate,
                   "measure A against A at the claim level: later sessions take delta from it");
  command.add_flag("--strict", flags.options.strict, "undecided or noisy ends with exit code 4");
  command.add_flag("--serve", flags.serve)->group("");
  command.add_option("--of-suite", flags.of_suite, "suite of a worker's cell")->group("");
  add_selection_flags(command, flags.sweep);
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
    const Support support = backend_takes(item, machine);
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

std::vector<PlanItem> plan_of(SweepFlags& flags) {
  for (const auto& [field, values] : flags.axes) {
    if (!values.empty()) flags.selection.axes.emplace_back(field, values);
  }
  return make_plan(flags.selection);
}

Machine machine_of(const SweepFlags& flags) {
  Machine machine = find_machine(flags.device != "cpu");
  if (flags.device == "cuda" && !machine.gpu)
    throw UsageError("--device cuda needs a GPU: " + machine.why_no_gpu);
  return machine;
}

/// Prints the plan where that was all that was asked for.
bool only_printed(const SweepFlags& flags, const std::vector<PlanItem>& plan) {
  if (flags.list) print_cells(plan);
  if (flags.dry_run && !flags.list) print_dry_run(plan, machine_of(flags));
  return flags.list || flags.dry_run;
}

/// The list with the ids of what it names besides ids: backends of revisions, and callables.
std::string named_backends(const std::string& list, Selection& selection) {
  return with_callables(with_revisions(list, selection.plugins), selection.plugins,
                        selection.embedding);
}

int run_sweep(SweepFlags& flags, bool timed, std::vector<std::string> benchmark_flags) {
  flags.options.runner.timed = timed;
  Selection& selection = flags.selection;
  selection.backends = named_backends(selection.backends, selection);
  std::vector<PlanItem> plan = plan_of(flags);
  if (only_printed(flags, plan)) return kExitOk;
  const Machine machine = machine_of(flags);
  if (flags.profile) return run_profile(plan, machine, flags.options);
  if (flags.serve) {
    serve_cells(plan, machine, flags.options.runner);
    return kExitOk;
  }
  return timed ? run_bench(std::move(plan), machine, flags.options, std::move(benchmark_flags))
               : run_verify(std::move(plan), machine, flags.options);
}

/// The operator that was named, else the first that has the backend.
std::string operator_of(const Selection& selection, const std::string& backend) {
  if (!selection.op.empty()) return selection.op;
  const Operators all = with_plugins(operators(), selection.plugins, selection.embedding);
  for (const auto& op : all) {
    for (const AnyBackend& one : op->backends()) {
      if (one.id == backend) return std::string(op->name());
    }
  }
  return std::string(all.front()->name());  // whose plan then says what backends there are
}

int run_comparison(CompareFlags& flags) {
  const auto is_file = [](const std::string& text) {
    const std::string before_revision = text.substr(0, text.find('@'));
    return text.ends_with(".jsonl") || before_revision.find('/') != std::string::npos;
  };
  if (is_file(flags.a) && is_file(flags.b))
    return compare_files(flags.a, flags.b, flags.options.strict);
  SweepFlags& sweep = flags.sweep;
  for (std::string* arm : {&flags.a, &flags.b}) *arm = named_backends(*arm, sweep.selection);
  sweep.selection.op = operator_of(sweep.selection, flags.a);
  sweep.selection.backends = flags.a;
  std::vector<PlanItem> plan = plan_of(sweep);
  find_backend(*plan[0].op, flags.a);  // not a glob
  const std::size_t backend_b = find_backend(*plan[0].op, flags.b);
  if (only_printed(sweep, plan)) return kExitOk;
  const Machine machine = machine_of(sweep);
  CompareOptions& options = flags.options;
  if (options.calibrate && flags.a != flags.b)
    throw UsageError("--calibrate compares a backend with itself: name it twice");
  options.level = flags.level == kClaim.name || options.calibrate ? kClaim : kProvisional;
  options.arms.cold = flags.cache == "cold";
  options.arms.seed = sweep.options.runner.seed;
  options.arms.cell_limit_s = sweep.options.runner.cell_limit_s;
  options.arms.call = sweep.options.runner.call;
  if (flags.serve) {
    Arms arms{plan[0], plan[0]};
    arms.a.suite = arms.b.suite = flags.of_suite;
    arms.b.backend = backend_b;
    serve_arms(arms, machine, options.arms);
    return kNoRegression;
  }
  options.arms.self = sweep.options.self;
  options.out = sweep.options.out;
  options.time_budget_s = sweep.options.time_budget_s;
  options.argv = sweep.options.argv;
  return run_compare(std::move(plan), backend_b, machine, options);
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

/// What a sweep takes from the program around this one.
void embed(SweepFlags& flags, const AttnbenchEmbedding& embedding) {
  flags.selection.embedding = &embedding;
  flags.options.runner.call = embedding.call;
  const char* const* word = embedding.worker;
  flags.options.self.program = *word;
  while (*++word) flags.options.self.words.emplace_back(*word);
}

int parse_and_run(std::vector<std::string> arguments, const AttnbenchEmbedding* embedding) {
  SweepFlags verify_flags;
  SweepFlags bench_flags;
  CompareFlags compare_flags;
  for (SweepFlags* flags : {&verify_flags, &bench_flags, &compare_flags.sweep}) {
    flags->options.argv = arguments;
    if (embedding) embed(*flags, *embedding);
  }
  std::vector<std::string> benchmark_flags = take_benchmark_flags(arguments);

  CLI::App app{"Backends of operators on the attention matrix: verified, timed, reported."};
  app.require_subcommand(1);
  std::string suite;
  CLI::App* list = app.add_subcommand("list", "operators, backends, suites and fields");
  list->add_option("--suite", suite, "print the cases of a suite");
  bool supports = false;
  list->add_flag("--supports", supports, "print which backend takes which feature");
  std::vector<std::string> plugins;
  add_plugin_flag(*list, plugins);
  CLI::App* verify = app.add_subcommand("verify", "compare backends with the fp64 oracle");
  add_sweep_flags(*verify, verify_flags);
  verify->add_flag("--profile", verify_flags.profile,
                   "run one cell of a GPU for a profiler and print the profiler's command");
  CLI::App* bench = app.add_subcommand("bench", "verify, then time");
  add_sweep_flags(*bench, bench_flags);
  bench
      ->add_option("--sample-seconds", bench_flags.options.runner.sample_seconds,
                   "time spent on the cold samples of a cell")
      ->check(CLI::PositiveNumber);
  bench->add_flag("--graph", bench_flags.options.runner.graph,
                  "also capture each launch in a CUDA graph, verify its replay and time it");
  CLI::App* compare = app.add_subcommand(
      "compare", "is B faster than A? Blocks in turns, a verdict with an interval");
  add_compare_flags(*compare, compare_flags);
  CLI::App* report = app.add_subcommand("report", "print rows as a table");
  std::vector<std::string> files;
  std::string format = "table";
  report->add_option("rows", files, "rows.jsonl files; default: the newest under results/");
  report->add_option("--format", format, "table, csv, markdown or html")
      ->check(CLI::IsMember({"table", "csv", "markdown", "html"}));

  std::reverse(arguments.begin() + 1, arguments.end());  // CLI11 takes a vector from its end
  try {
    app.parse(std::vector<std::string>(arguments.begin() + 1, arguments.end()));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    throw UsageError(error.what());
  }
  if (*list) {
    const Operators listed = with_plugins(operators(), plugins, embedding);
    if (supports) {
      print_supports(listed, find_machine(/*want_gpu=*/true));
    } else {
      print_list(listed, suite);
    }
  } else if (*report) {
    print_report(files, format);
  } else if (*compare) {
    return run_comparison(compare_flags);
  } else {
    return *bench ? run_sweep(bench_flags, true, std::move(benchmark_flags))
                  : run_sweep(verify_flags, false, {});
  }
  return kExitOk;
}

}  // namespace

int run_command_line(int argc, const char* const* argv, const AttnbenchEmbedding* embedding) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error of its write, not the end
  std::vector<std::string> arguments(argv, argv + argc);
  arguments.front() =
      embedding ? embedding->call : std::filesystem::path(arguments.front()).filename().string();
  int code = kExitUsage;
  try {
    code = parse_and_run(std::move(arguments), embedding);
    if (std::fflush(stdout) != 0)
      throw UsageError(std::string("cannot write standard output: ") + std::strerror(errno));
  } catch (const std::exception& error) {
    fmt::print(stderr, "attnbench: {}\n", error.what());
    return kExitUsage;
  }
  return code;
}

}  // namespace attn
