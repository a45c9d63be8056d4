// Stands in for the NVIDIA management library: what nvml_test expects to be read. It lacks the newer
// name of the clock reasons, as drivers before 535 do, and knows nothing of MIG.
#include <string.h>

enum { kSuccess = 0, kInvalidArgument = 2 };

int nvmlInit_v2(void) { return kSuccess; }
int nvmlShutdown(void) { return kSuccess; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  static int gpu;
  *device = &gpu;
  return index == 0 ? kSuccess : kInvalidArgument;
}
int nvmlSystemGetDriverVersion(char* version, unsigned length) {
  strncpy(version, "580.1.2", length);
  return kSuccess;
}
int nvmlDeviceGetEnforcedPowerLimit(void* device, unsigned* mw) {
  *mw = 700000;
  return device ? kSuccess : kInvalidArgument;
}
int nvmlDeviceGetClockInfo(void* device, int type, unsigned* mhz) {
  *mhz = type == 1 ? 1980 : 3201;  // SM, memory
  return device ? kSuccess : kInvalidArgument;
}
int nvmlDeviceGetPowerUsage(void* device, unsigned* mw) {
  *mw = 412500;
  return device ? kSuccess : kInvalidArgument;
}
int nvmlDeviceGetTemperature(void* device, int sensor, unsigned* celsius) {
  *celsius = 61;
  return device && sensor == 0 ? kSuccess : kInvalidArgument;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void* device, unsigned long long* reasons) {
  *reasons = 0x4;
  return device ? kSuccess : kInvalidArgument;
}
