// What the NVIDIA management library says of GPU 0, read through dlopen: absent means unknown.
// Reads only; nothing here or elsewhere sets a clock, a power limit or a mode.
#pragma once

#include <optional>
#include <string>

namespace attn {

struct NvmlFacts {
  std::optional<std::string> driver;
  std::optional<double> power_limit_w;
  std::optional<bool> mig;
};

NvmlFacts read_nvml();

}  // namespace attn
