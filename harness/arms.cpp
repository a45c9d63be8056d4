// The other end of the workers: starts them, asks for blocks, collects their rows.
#include "harness/arms.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "harness/block_json.h"
#include "harness/child.h"

namespace attn {
namespace {

std::vector<std::string> worker_arguments(const Arms& arms,
                                          const Machine& machine,
                                          const ArmOptions& options,
                                          Arm first) {
  std::vector<std::string> words = {"compare",
                                    std::string(arms.a.backend_id()),
                                    std::string(arms.b.backend_id()),
                                    "--op",
                                    std::string(arms.a.op->name()),
                                    "--serve",
                                    std::string(name_of(first)),
                                    "--device",
                                    machine.gpu ? "cuda" : "cpu",
                                    "--cache",
                                    options.cold ? "cold" : "hot",
                                    "--seed",
                                    std::to_string(options.seed),
                                    "--cell-limit",
                                    fmt::format("{}", options.cell_limit_s)};
  if (!arms.a.suite.empty()) words.insert(words.end(), {"--of-suite", arms.a.suite});
  for (const auto& flags : {problem_flags(arms.a), plugin_flags(arms.b)})
    words.insert(words.end(), flags.begin(), flags.end());
  return words;
}

/// How telling a status is when the two arms differ.
int gravity(const Json& row) {
  const Json& status = row["status"];
  if (status == name_of(Status::kOk)) return 0;
  if (status == name_of(Status::kUnchecked)) return 1;
  // A crash reported for A may only be the end of the tensors that it shared with B.
  if (status == name_of(Status::kCrash) && row["reason"] == "the other arm failed") return 2;
  return status == name_of(Status::kIncorrect) ? 4 : 3;
}

class Worker {
 public:
  Worker(const ArmOptions& options,
         const std::vector<std::string>& arguments,
         ArmsMeasured& measured)
      : child_(options.worker, arguments), timeout_s_(options.timeout_s), measured_(measured) {
    const Json hello = receive();
    if (!hello.contains("ready")) take_rows(hello);
  }

  Block next() {
    child_.send("block");
    return block_from_json(receive());
  }
  void close() {
    child_.send("end");
    take_rows(receive());
  }

 private:
  Json receive() {
    Json message = Json::parse(child_.receive(timeout_s_), nullptr, /*allow_exceptions=*/false);
    if (message.is_discarded()) throw ProcessFailure(Status::kCrash, "its answer cannot be read");
    return message;
  }

  /// Keeps the worker's last message; throws when an arm did not pass.
  void take_rows(const Json& message) {
    const Json& a = message.at("a");
    const Json& b = message.at("b");
    measured_.rows = {a, b};
    for (const Json& flag : message.at("flags")) measured_.flags.insert(flag);
    const Json& worst = gravity(b) > gravity(a) ? b : a;
    if (gravity(worst) == 1) measured_.status = Status::kUnchecked;
    if (gravity(worst) <= 1) return;
    std::size_t status = 0;
    while (worst["status"] != kStatusNames[status]) ++status;
    throw ProcessFailure(
        static_cast<Status>(status),
        fmt::format("{}: {}", worst["backend"].get<std::string>(),
                    worst["reason"].is_string() ? worst["reason"].get<std::string>()
                                                : worst["status"].get<std::string>()));
  }

  Child child_;
  double timeout_s_;
  ArmsMeasured& measured_;
};

}  // namespace

ArmsMeasured measure_arms(const Arms& arms,
                          const Machine& machine,
                          const ArmOptions& options,
                          const Level& level,
                          const std::function<bool()>& out_of_time) {
  ArmsMeasured measured;
  const OpenProcess open = [&](Arm first) {
    auto worker = std::make_shared<Worker>(options, worker_arguments(arms, machine, options, first),
                                           measured);
    return BlockProcess{.next = [worker] { return worker->next(); },
                        .close = [worker] { worker->close(); }};
  };
  try {
    measured.gathered = gather(level, open, out_of_time);
  } catch (const ProcessFailure& failure) {
    measured.status = failure.status();
    measured.reason = failure.what();
  } catch (const Json::exception& error) {
    measured.status = Status::kCrash;
    measured.reason = error.what();
  }
  return measured;
}

}  // namespace attn
