// The worker's side: one process, both arms, blocks on request.
#include <optional>
#include <string>

#include "harness/arms.h"
#include "harness/block_json.h"
#include "harness/child.h"
#include "harness/inference.h"
#include "harness/nvml.h"
#include "harness/runner.h"

namespace attn {
namespace {

const DeviceInfo& device_of(const PlanItem& item, const Machine& machine) {
  return machine.device_for(*item.op->backends()[item.backend].info);
}

/// Takes groups of one arm's samples and remembers what was odd about them.
class ArmSampler {
 public:
  ArmSampler(const TakeSamples& take, const DeviceInfo& device, bool cold)
      : take_(take), device_(device), cold_(cold) {}

  Group group(std::set<std::string>& flags) const {
    if (!cold_) take_(false, 1);  // the other arm may have pushed the tensors out
    gpu::Samples samples = take_(cold_, kGroupSamples);
    if (cold_ && samples.flush_bytes < 2 * device_.l2_bytes) flags.insert("cold_unproven");
    if (!samples.gated) flags.insert("ungated");
    Group group{.ns = std::move(samples.ns)};
    if (!samples.mhz.empty()) group.mhz = mean(samples.mhz);
    return group;
  }

 private:
  const TakeSamples& take_;
  const DeviceInfo& device_;
  bool cold_;
};

}  // namespace

void serve_arms(const Arms& arms, const Machine& machine, const ArmOptions& options, Arm first) {
  const Parent parent;
  const auto answer = [&parent](const Json& message) { parent.send(line_of(message)); };
  Runner runner(machine, {.seed = options.seed, .cell_limit_s = options.cell_limit_s},
                std::nullopt);
  std::set<std::string> flags;
  std::optional<CellRow> row_b;
  const auto answer_blocks = [&](const TakeSamples& take_a, const TakeSamples& take_b) {
    const ArmSampler a(take_a, device_of(arms.a, machine), options.cold);
    const ArmSampler b(take_b, device_of(arms.b, machine), options.cold);
    std::optional<Nvml> nvml;
    if (machine.gpu) nvml.emplace();
    const auto slowed_down = [&] {
      const std::uint64_t reasons = nvml ? nvml->state().reasons.value_or(0) : 0;
      if (power_capped(reasons)) flags.insert("power_capped");
      return hardware_slowdown(reasons);
    };
    answer({{"ready", true}});
    while (Parent::receive() == "block") {
      const auto take = [&](Arm arm) { return (arm == Arm::kA ? a : b).group(flags); };
      answer(to_json(measure_steady_block(take, first, slowed_down, flags)));
    }
  };
  const CellRow row_a = runner.run_with(arms.a, [&](const TakeSamples& take_a) {
    row_b =
        runner.run_with(arms.b, [&](const TakeSamples& take_b) { answer_blocks(take_a, take_b); });
    // A crash of B takes the tensors of both with it.
    if (row_b->status == Status::kCrash || row_b->status == Status::kOom)
      throw std::runtime_error("the other arm failed");
  });
  if (!row_b) row_b = runner.run(arms.b);  // A never ran: B's row for itself
  answer({{"a", to_json(row_a)}, {"b", to_json(*row_b)}, {"flags", flags}});
}

}  // namespace attn
