// The other end of the workers: starts them, asks for blocks, collects their rows.
#include "harness/arms.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "harness/block_json.h"
#include "harness/child.h"

namespace attn {
namespace {

std::vector<std::string> worker_arguments(const Arms& arms,
                                          const Machine& machine,
                                          const ArmOptions& options) {
  std::vector<std::string> words = options.self.words;
  words.insert(
      words.end(),
      {"compare", std::string(arms.a.backend_id()), std::string(arms.b.backend_id()), "--op",
       std::string(arms.a.op->name()), "--serve", "--device", machine.gpu ? "cuda" : "cpu",
       "--cache", options.cold ? "cold" : "hot", "--seed", std::to_string(options.seed),
       "--cell-limit", fmt::format("{}", options.cell_limit_s)});
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

Json receive_from(Child& child, double timeout_s) {
  Json message = Json::parse(child.receive(timeout_s), nullptr, /*allow_exceptions=*/false);
  if (message.is_discarded()) throw ProcessFailure(Status::kCrash, "its answer cannot be read");
  return message;
}

/// The processes of one cell. Starting them costs libraries and a context each, while nothing is timed
/// yet: a batch starts at once.
class Workers {
 public:
  Workers(const ArmOptions& options, std::vector<std::string> arguments, std::size_t batch)
      : options_(options), arguments_(std::move(arguments)), batch_(batch) {}
  /// They end together too, those that never began among them.
  ~Workers() {
    for (const auto& child : children_) child->hang_up();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// The next one, which has not begun.
  Child& next() {
    if (next_ == children_.size()) start();
    return *children_[next_++];
  }

 private:
  void start() {
    for (std::size_t i = 0; i < batch_; ++i)
      children_.push_back(std::make_unique<Child>(options_.self.program, arguments_));
    for (std::size_t i = next_; i < children_.size(); ++i) {
      if (!receive_from(*children_[i], options_.timeout_s).contains("started"))
        throw ProcessFailure(Status::kCrash, "its first words are no start");
    }
  }

  const ArmOptions& options_;
  std::vector<std::string> arguments_;
  std::size_t batch_;
  std::vector<std::unique_ptr<Child>> children_;
  std::size_t next_ = 0;
};

/// One process at work. What it learns for the next is in `measured` and `known`.
class Worker {
 public:
  Worker(Child& child, double timeout_s, ArmsMeasured& measured, Json& known)
      : child_(child), timeout_s_(timeout_s), measured_(measured), known_(known) {
    const bool settles = measured.flags.count(std::string(kClockUnsteady)) == 0;
    child_.send(line_of({{"settles", settles}, {"known", known}}));
    const Json hello = receive_from(child_, timeout_s_);
    if (!hello.contains("ready")) take_rows(hello);
  }

  Block next(Arm first) {
    if (!since_) since_ = Clock::now();
    child_.send(fmt::format("block {}", name_of(first)));
    return block_from_json(receive_from(child_, timeout_s_));
  }
  bool brief() const {
    constexpr std::chrono::milliseconds kBrief(400);
    return since_ && Clock::now() - *since_ < kBrief;
  }
  void close() {
    child_.send("end");
    take_rows(receive_from(child_, timeout_s_));
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// Keeps the worker's last message; throws when an arm did not pass.
  void take_rows(const Json& message) {
    const Json& a = message.at("a");
    const Json& b = message.at("b");
    measured_.rows = {a, b};
    for (const Json& flag : message.at("flags")) measured_.flags.insert(flag);
    if (message.contains("known")) known_ = message["known"];
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

  Child& child_;
  double timeout_s_;
  ArmsMeasured& measured_;
  Json& known_;
  std::optional<Clock::time_point> since_;  // its first block
};

}  // namespace

ArmsMeasured measure_arms(const Arms& arms,
                          const Machine& machine,
                          const ArmOptions& options,
                          const Level& level,
                          const OutOfTime& out_of_time) {
  const auto start = std::chrono::steady_clock::now();
  ArmsMeasured measured;
  Json known = Json::object();
  try {
    Workers workers(options, worker_arguments(arms, machine, options), level.processes);
    const OpenProcess open = [&] {
      auto worker = std::make_shared<Worker>(workers.next(), options.timeout_s, measured, known);
      return BlockProcess{.next = [worker](Arm first) { return worker->next(first); },
                          .close = [worker] { worker->close(); },
                          .brief = [worker] { return worker->brief(); }};
    };
    measured.gathered = gather(level, open, out_of_time);
  } catch (const ProcessFailure& failure) {
    measured.status = failure.status();
    measured.reason = failure.what();
  } catch (const Json::exception& error) {
    measured.status = Status::kCrash;
    measured.reason = error.what();
  }
  measured.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return measured;
}

}  // namespace attn
