// Both ends of the pipe between a sweep and its worker. A request is a line of JSON:
//   {"measure": "ceilings"}                -> the ceilings
//   {"cell": name, "ceilings": ... | null} -> {"row": the cell's, "tainted": end this process}
// The worker's first line names the device that it found.
#include "harness/cell_worker.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <stdexcept>
#include <utility>

#include "harness/ceilings.h"

namespace attn {
namespace {

constexpr double kStartSeconds = 120;  // libraries and contexts, on a machine that is busy

Ceilings measure(const Machine& machine) {
  return machine.gpu ? gpu::measure_ceilings() : host::measure_ceilings();
}

Json ceilings_or_null(const std::optional<Ceilings>& ceilings) {
  return ceilings ? to_json(*ceilings) : Json(nullptr);
}

}  // namespace

void serve_cells(const std::vector<PlanItem>& plan,
                 const Machine& machine,
                 const RunnerOptions& options) {
  const Parent parent;
  std::map<std::string, const PlanItem*> items;
  for (const PlanItem& item : plan) items[item.name()] = &item;
  std::optional<Runner> runner;
  parent.send(line_of({{"device", machine.main_device().name}}));
  while (const std::optional<std::string> line = Parent::receive()) {
    const Json request = Json::parse(*line);
    if (request.contains("measure")) {
      parent.send(line_of(to_json(measure(machine))));
      continue;
    }
    if (!runner) {
      std::optional<Ceilings> ceilings;
      if (request.at("ceilings").is_object()) ceilings = ceilings_from_json(request.at("ceilings"));
      runner.emplace(machine, options, ceilings);
    }
    const Json row = to_json(runner->run(*items.at(request.at("cell"))));
    parent.send(line_of({{"row", row}, {"tainted", runner->tainted()}}));
  }
}

CellWorkers::CellWorkers(const Machine& machine, RunnerOptions runner, WorkerOptions options)
    : machine_(machine), runner_(std::move(runner)), options_(std::move(options)) {}

Json CellWorkers::ask(const Json& request, double timeout_s) {
  worker_->send(line_of(request));
  Json answer = Json::parse(worker_->receive(timeout_s), nullptr, /*allow_exceptions=*/false);
  if (answer.is_discarded()) throw ProcessFailure(Status::kCrash, "its answer cannot be read");
  return answer;
}

/// A fresh worker, unless there is one that can be trusted.
void CellWorkers::start() {
  if (worker_) return;
  used_ = false;
  worker_ = std::make_unique<Child>(options_.program, options_.arguments);
  const Json hello =
      Json::parse(worker_->receive(kStartSeconds), nullptr, /*allow_exceptions=*/false);
  const std::string& wanted = machine_.main_device().name;
  if (hello.is_object() && hello.value("device", Json()) == wanted) return;
  worker_.reset();
  throw ProcessFailure(Status::kCrash, fmt::format("a new process does not find {}", wanted));
}

const Ceilings& CellWorkers::measure_ceilings(double timeout_s) {
  if (options_.in_process) return ceilings_.emplace(measure(machine_));
  start();
  return ceilings_.emplace(ceilings_from_json(ask({{"measure", "ceilings"}}, timeout_s)));
}

Json CellWorkers::run(const PlanItem& item, double timeout_s) {
  if (options_.in_process) {
    if (!local_) local_ = std::make_unique<Runner>(machine_, runner_, ceilings_);
    return to_json(local_->run(item));
  }
  start();
  const bool fresh = !std::exchange(used_, true);
  Json row = attempt(item, timeout_s);
  if (fresh || row["status"] != name_of(Status::kOom)) return row;
  worker_.reset();
  start();
  used_ = true;
  return attempt(item, timeout_s);
}

Json CellWorkers::attempt(const PlanItem& item, double timeout_s) {
  try {
    const Json answer =
        ask({{"cell", item.name()}, {"ceilings", ceilings_or_null(ceilings_)}}, timeout_s);
    Json row = answer.at("row");
    if (answer.at("tainted")) worker_.reset();
    return row;
  } catch (const ProcessFailure& failure) {
    worker_.reset();
    CellRow row = describe_cell(item, machine_, runner_);
    row.status = failure.status();
    row.reason = failure.what();
    return to_json(row);
  }
}

}  // namespace attn
