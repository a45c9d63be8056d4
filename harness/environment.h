// Where and by what rows were made: the machine, the build, the revision. Unknown facts are null; no
// user or host name is recorded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/ceilings.h"
#include "harness/core/backend.h"
#include "harness/gpu.h"
#include "harness/row.h"

namespace attn {

/// The CPU and the GPU (if there is one) that cells run on.
struct Machine {
  DeviceInfo cpu;
  std::optional<gpu::Facts> gpu;
  std::string why_no_gpu;
  std::string cpu_model;

  /// The device that the session is about: the GPU unless it is absent or not wanted.
  const DeviceInfo& main_device() const { return gpu ? gpu->info : cpu; }
  /// Where a backend's cells run.
  const DeviceInfo& device_for(const BackendInfo& backend) const {
    return backend.memory == MemorySpace::kHost ? cpu : main_device();
  }
};

/// Looks at this machine; `want_gpu` false leaves its GPU alone.
Machine find_machine(bool want_gpu);

/// Directory name of a device's results: "nvidia-h200", or "cpu".
std::string device_slug(const Machine& machine);

/// The linker's build id of this executable: changes with any change of its code.
std::string build_id();

struct Revision {
  std::optional<std::string> sha;
  std::optional<bool> dirty;
  std::optional<std::string> diff_hash;
};
/// Of the source tree that this binary was built from; the environment variable ATTN_GIT_SHA names
/// it where the tree travelled without its repository.
Revision find_revision();

/// Ceilings as the run record holds them, unmeasured ones null, and back.
Json to_json(const Ceilings& ceilings);
Ceilings ceilings_from_json(const Json& json);

/// The `run` line. Ceilings are null until they have been measured.
Json run_record(const Machine& machine,
                const Revision& revision,
                const std::optional<Ceilings>& ceilings,
                const std::vector<std::string>& argv,
                std::uint64_t seed);

/// UTC now as 20261121T101500Z (compact) or 2026-11-21T10:15:00Z.
std::string utc_now(bool compact);

}  // namespace attn
