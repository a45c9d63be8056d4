// The management library's functions, looked up by name. Their signatures: NVML API reference.
#include "harness/nvml.h"

#include <dlfcn.h>

#include <array>

namespace attn {
namespace {

using Device = void*;
constexpr int kSuccess = 0;      // NVML_SUCCESS
constexpr int kSmClock = 1;      // NVML_CLOCK_SM
constexpr int kGpuSensor = 0;    // NVML_TEMPERATURE_GPU
constexpr double kMilli = 1e-3;  // power comes in mW

// nvmlClocksEventReason...
constexpr std::uint64_t kSwPowerCap = 0x04;
constexpr std::uint64_t kHwSlowdown = 0x08;
constexpr std::uint64_t kHwThermalSlowdown = 0x40;
constexpr std::uint64_t kHwPowerBrakeSlowdown = 0x80;

}  // namespace

bool hardware_slowdown(std::uint64_t reasons) {
  return (reasons & (kHwSlowdown | kHwThermalSlowdown | kHwPowerBrakeSlowdown)) != 0;
}

bool power_capped(std::uint64_t reasons) { return (reasons & kSwPowerCap) != 0; }

template <class Function>
Function* Nvml::symbol(const char* name) const {
  return reinterpret_cast<Function*>(dlsym(library_, name));
}

Nvml::Nvml(const char* library) : library_(dlopen(library, RTLD_NOW | RTLD_LOCAL)) {
  if (!library_) return;
  auto* init = symbol<int()>("nvmlInit_v2");
  auto* handle = symbol<int(unsigned, Device*)>("nvmlDeviceGetHandleByIndex_v2");
  if (init && handle && init() == kSuccess && handle(0, &device_) != kSuccess) device_ = nullptr;
}

Nvml::~Nvml() {
  if (!library_) return;
  if (auto* shutdown = symbol<int()>("nvmlShutdown")) shutdown();
  dlclose(library_);
}

NvmlFacts Nvml::facts() const {
  NvmlFacts facts;
  if (!device_) return facts;
  std::array<char, 96> version{};
  auto* driver = symbol<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  if (driver && driver(version.data(), version.size()) == kSuccess) facts.driver = version.data();
  unsigned value = 0;
  auto* limit = symbol<int(Device, unsigned*)>("nvmlDeviceGetEnforcedPowerLimit");
  if (limit && limit(device_, &value) == kSuccess) facts.power_limit_w = value * kMilli;
  unsigned pending = 0;
  auto* mode = symbol<int(Device, unsigned*, unsigned*)>("nvmlDeviceGetMigMode");
  if (mode && mode(device_, &value, &pending) == kSuccess) facts.mig = value != 0;
  return facts;
}

NvmlState Nvml::state() const {
  NvmlState state;
  if (!device_) return state;
  unsigned value = 0;
  auto* clock = symbol<int(Device, int, unsigned*)>("nvmlDeviceGetClockInfo");
  if (clock && clock(device_, kSmClock, &value) == kSuccess) state.sm_mhz = value;
  auto* power = symbol<int(Device, unsigned*)>("nvmlDeviceGetPowerUsage");
  if (power && power(device_, &value) == kSuccess) state.power_w = value * kMilli;
  auto* temperature = symbol<int(Device, int, unsigned*)>("nvmlDeviceGetTemperature");
  if (temperature && temperature(device_, kGpuSensor, &value) == kSuccess)
    state.temperature_c = value;
  unsigned long long bits = 0;
  // The name since NVML 12.2, and the one before.
  auto* reasons =
      symbol<int(Device, unsigned long long*)>("nvmlDeviceGetCurrentClocksEventReasons");
  if (!reasons)
    reasons = symbol<int(Device, unsigned long long*)>("nvmlDeviceGetCurrentClocksThrottleReasons");
  if (reasons && reasons(device_, &bits) == kSuccess) state.reasons = bits;
  return state;
}

}  // namespace attn
