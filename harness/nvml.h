// What the NVIDIA management library says of GPU 0, read through dlopen: absent means unknown.
// Reads only; nothing here or elsewhere sets a clock, a power limit or a mode.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace attn {

/// What does not change during a run.
struct NvmlFacts {
  std::optional<std::string> driver;
  std::optional<double> power_limit_w;
  std::optional<bool> mig;
};

/// What does.
struct NvmlState {
  std::optional<int> sm_mhz;
  std::optional<double> power_w;
  std::optional<int> temperature_c;
  std::optional<std::uint64_t> reasons;  ///< why the clock is lower than it could be: NVML's bits
};

/// The hardware slowed the clock down: for its temperature or its power supply.
bool hardware_slowdown(std::uint64_t reasons);
/// The driver holds the clock down to keep the power limit.
bool power_capped(std::uint64_t reasons);

/// The library, open as long as this lives.
class Nvml {
 public:
  explicit Nvml(const char* library = "libnvidia-ml.so.1");
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  NvmlFacts facts() const;
  NvmlState state() const;

 private:
  template <class Function>
  Function* symbol(const char* name) const;

  void* library_ = nullptr;
  void* device_ = nullptr;  // null: nothing can be asked
};

}  // namespace attn
