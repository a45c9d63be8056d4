// The worker's side: one process, both arms, blocks on request. Its lines of JSON:
//   {"started": true}                                   when it may be told to begin
//   <- {"settles": the clock may, "known": ...}         begin
//   {"ready": true}                                     warm; then a block for every "block A", "block B"
//   {"a": row, "b": row, "flags": [...], "known": ...}  the end
// "known" is what earlier processes of the cell found right: by cell, {"hash", "check"}.
#include <chrono>
#include <optional>
#include <string>

#include "harness/arms.h"
#include "harness/block_json.h"
#include "harness/child.h"
#include "harness/inference.h"
#include "harness/nvml.h"
#include "harness/runner.h"
#include "harness/warm_up.h"

namespace attn {
namespace {

using Flags = std::set<std::string>;

const DeviceInfo& device_of(const PlanItem& item, const Machine& machine) {
  return machine.device_for(*item.op->backends()[item.backend].info);
}

/// Takes groups of one arm's samples and remembers what was odd about them.
class ArmSampler {
 public:
  ArmSampler(const TakeSamples& take, const DeviceInfo& device, bool cold)
      : take_(take), device_(device), cold_(cold) {}

  Group group(Flags& flags) const {
    if (!cold_) take_(false, 1);  // the other arm may have pushed the tensors out
    gpu::Samples samples = take_(cold_, kGroupSamples);
    if (cold_ && samples.flush_bytes < 2 * device_.l2_bytes) flags.insert("cold_unproven");
    if (!samples.gated) flags.insert("ungated");
    Group group{.ns = std::move(samples.ns)};
    if (!samples.mhz.empty()) group.mhz = mean(samples.mhz);
    return group;
  }
  /// Runs the arm for about 5 ms, once at least; the clock meanwhile, on a GPU.
  std::optional<double> warm() {
    constexpr double kStepNs = 5e6;
    constexpr int kMostRuns = 6;
    const int runs = sample_ns_ > 0 && kMostRuns * sample_ns_ < kStepNs ? kMostRuns : 1;
    const gpu::Samples samples = take_(false, runs);
    sample_ns_ = samples.ns.back();
    if (device_.space == MemorySpace::kHost || samples.mhz.empty()) return std::nullopt;
    return mean(samples.mhz);
  }

 private:
  const TakeSamples& take_;
  const DeviceInfo& device_;
  bool cold_;
  double sample_ns_ = 0;  // of the last warm-up step
};

/// Both arms in turns until the clock is steady under the work that the blocks will do. A step is both
/// of them, so that arms that draw different power do not look like a clock that moves.
void warm_up_both(ArmSampler& a, ArmSampler& b, bool settles, Flags& flags) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const WarmStep step = [&]() -> std::optional<double> {
    const std::optional<double> mhz_a = a.warm();
    const std::optional<double> mhz_b = b.warm();
    if (!mhz_a || !mhz_b) return std::nullopt;
    return (*mhz_a + *mhz_b) / 2;
  };
  const auto now_s = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  // The 3 s are the GPU's, which the processes of a cell keep busy one after the other.
  constexpr double kOneLook = 1.2 * kWarmWindowSeconds;
  if (!warm_up(step, now_s, settles ? kWarmUpSeconds : kOneLook))
    flags.insert(std::string(kClockUnsteady));
}

VerifiedCells verified_from_json(const Json& json) {
  VerifiedCells verified;
  for (const auto& [cell, one] : json.items())
    verified[cell] = {one.at("hash"), check_from_json(one.at("check"))};
  return verified;
}

Json to_json(const VerifiedCells& verified) {
  Json json = Json::object();
  for (const auto& [cell, one] : verified)
    json[cell] = {{"hash", one.hash}, {"check", to_json(one.check)}};
  return json;
}

/// Says what the cell's next processes need to know, and how the arms passed.
Json work_on_blocks(const Arms& arms,
                    const Machine& machine,
                    const ArmOptions& options,
                    const Json& begin,
                    const std::optional<Nvml>& nvml,
                    const std::function<void(const Json&)>& answer) {
  Runner runner(machine,
                {.seed = options.seed, .cell_limit_s = options.cell_limit_s, .call = options.call},
                std::nullopt);
  runner.trust(verified_from_json(begin.at("known")));
  Flags flags;
  const auto answer_blocks = [&](const TakeSamples& take_a, const TakeSamples& take_b) {
    ArmSampler a(take_a, device_of(arms.a, machine), options.cold);
    ArmSampler b(take_b, device_of(arms.b, machine), options.cold);
    warm_up_both(a, b, begin.at("settles"), flags);
    const auto slowed_down = [&] {
      const std::uint64_t reasons = nvml ? nvml->state().reasons.value_or(0) : 0;
      if (power_capped(reasons)) flags.insert("power_capped");
      return hardware_slowdown(reasons);
    };
    answer({{"ready", true}});
    const auto take = [&](Arm arm) { return (arm == Arm::kA ? a : b).group(flags); };
    for (auto word = Parent::receive(); word == "block A" || word == "block B";
         word = Parent::receive()) {
      const Arm first = word == "block A" ? Arm::kA : Arm::kB;
      answer(to_json(measure_steady_block(take, first, slowed_down, flags)));
    }
  };
  std::optional<CellRow> row_b;
  const CellRow row_a = runner.run_with(arms.a, [&](const TakeSamples& take_a) {
    row_b =
        runner.run_with(arms.b, [&](const TakeSamples& take_b) { answer_blocks(take_a, take_b); });
    // A crash of B takes the tensors of both with it.
    if (row_b->status == Status::kCrash || row_b->status == Status::kOom)
      throw std::runtime_error("the other arm failed");
  });
  if (!row_b) row_b = runner.run(arms.b);  // A never ran: B's row for itself
  return {{"a", to_json(row_a)},
          {"b", to_json(*row_b)},
          {"flags", flags},
          {"known", to_json(runner.verified())}};
}

}  // namespace

void serve_arms(const Arms& arms, const Machine& machine, const ArmOptions& options) {
  const Parent parent;
  const auto answer = [&parent](const Json& message) { parent.send(line_of(message)); };
  std::optional<Nvml> nvml;
  if (machine.gpu) {
    nvml.emplace();
    gpu::free_bytes();  // needs a context, and so makes it
  }
  answer({{"started", true}});
  const std::optional<std::string> begin = Parent::receive();
  if (!begin) return;
  answer(work_on_blocks(arms, machine, options, Json::parse(*begin), nvml, answer));
  // The memory is given back. Ending takes a while too: all processes of the cell do it at once.
  while (Parent::receive()) {
  }
}

}  // namespace attn
