// Reads driver version, power limit and MIG mode without linking the management library.
#include "harness/nvml.h"

#include <dlfcn.h>

#include <array>

namespace attn {
namespace {

using Device = void*;
constexpr int kSuccess = 0;  // NVML_SUCCESS

template <class Function>
Function* symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

void read_device(void* library, Device device, NvmlFacts& facts) {
  if (auto* limit = symbol<int(Device, unsigned*)>(library, "nvmlDeviceGetEnforcedPowerLimit")) {
    unsigned milliwatts = 0;
    if (limit(device, &milliwatts) == kSuccess) facts.power_limit_w = milliwatts / 1000.0;
  }
  if (auto* mode = symbol<int(Device, unsigned*, unsigned*)>(library, "nvmlDeviceGetMigMode")) {
    unsigned current = 0;
    unsigned pending = 0;
    if (mode(device, &current, &pending) == kSuccess) facts.mig = current != 0;
  }
}

}  // namespace

NvmlFacts read_nvml() {
  NvmlFacts facts;
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return facts;
  auto* init = symbol<int()>(library, "nvmlInit_v2");
  auto* shutdown = symbol<int()>(library, "nvmlShutdown");
  auto* handle = symbol<int(unsigned, Device*)>(library, "nvmlDeviceGetHandleByIndex_v2");
  if (init && shutdown && handle && init() == kSuccess) {
    std::array<char, 96> version{};
    auto* driver = symbol<int(char*, unsigned)>(library, "nvmlSystemGetDriverVersion");
    if (driver && driver(version.data(), version.size()) == kSuccess) facts.driver = version.data();
    Device device = nullptr;
    if (handle(0, &device) == kSuccess) read_device(library, device, facts);
    shutdown();
  }
  dlclose(library);
  return facts;
}

}  // namespace attn
