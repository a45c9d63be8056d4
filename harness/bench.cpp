// `attnbench bench`: every cell is a Google Benchmark with manual time. Its users' flags keep working
// (--benchmark_filter, _list_tests, _repetitions, _out); our reporter writes the rows.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <map>
#include <string>
#include <utility>

#include "harness/sweep.h"

namespace attn {
namespace {

/// The row that each benchmark's last run produced, until the reporter takes it.
using Pending = std::map<std::string, std::pair<const PlanItem*, Json>>;

/// One iteration is one cell: its manual time is the median of the cold samples, which stand in the
/// row and, as quantiles, in the counters.
void run_cell(benchmark::State& state, Sweep& sweep, const PlanItem& item, Pending& pending) {
  std::optional<Json> row = sweep.work_on(item);
  if (!row) {
    state.SkipWithError("not run: time budget spent or no worker");
    return;
  }
  if (!(*row)["time"].is_object() || (*row)["status"] != name_of(Status::kOk)) {
    const Json& reason = (*row)["reason"];
    const std::string why = (*row)["status"].get<std::string>() + ": " +
                            (reason.is_string() ? reason.get<std::string>() : "no time");
    state.SkipWithError(why.c_str());
  } else {
    const Json& cold = (*row)["time"]["cold"];
    const auto ns = [&](const char* quantile) { return cold[quantile].get<double>(); };
    while (state.KeepRunning()) state.SetIterationTime(ns("median") * 1e-9);
    state.counters["samples"] = cold["n"].get<double>();
    state.counters["p25_us"] = ns("p25") * 1e-3;
    state.counters["p75_us"] = ns("p75") * 1e-3;
  }
  pending.insert_or_assign(item.name(), std::pair(&item, std::move(*row)));
}

class RowReporter final : public benchmark::BenchmarkReporter {
 public:
  RowReporter(Sweep& sweep, Pending& pending) : sweep_(sweep), pending_(pending) {}

  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const auto it = pending_.find(run.run_name.function_name);
      if (it == pending_.end())
        continue;  // an aggregate of repetitions, or a cell that did not run
      const auto& [item, row] = it->second;
      sweep_.record(*item, row);
      if (row["time"].is_object())
        fmt::print("{} {:.4f} ms\n", item->name(),
                   row["time"]["cold"]["median"].get<double>() * 1e-6);
      pending_.erase(it);
    }
  }

 private:
  Sweep& sweep_;
  Pending& pending_;
};

}  // namespace

int run_bench(std::vector<PlanItem> plan,
              const Machine& machine,
              const SweepOptions& options,
              std::vector<std::string> benchmark_flags) {
  std::vector<char*> arguments;
  arguments.reserve(benchmark_flags.size());
  for (std::string& flag : benchmark_flags) arguments.push_back(flag.data());
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return kExitUsage;

  Sweep sweep(std::move(plan), machine, options);
  Pending pending;
  for (const PlanItem& item : sweep.remaining()) {
    benchmark::RegisterBenchmark(
        item.name().c_str(),
        [&](benchmark::State& state) { run_cell(state, sweep, item, pending); })
        ->UseManualTime()
        ->Iterations(1)
        ->Unit(benchmark::kMillisecond);
  }
  RowReporter reporter(sweep, pending);
  if (!sweep.remaining().empty()) benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return sweep.finish();
}

}  // namespace attn
