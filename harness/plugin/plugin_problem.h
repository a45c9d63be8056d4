// Problems and devices as the C structs that plugins see.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "harness/core/operator.h"
#include "harness/plugin/attnbench_plugin.h"

namespace attn {

/// Owns all that its C struct points to; neither copied nor moved.
class PluginProblem {
 public:
  /// `tensors` are the starts of the allocations, in the order of tensor_specs; empty: no data yet.
  PluginProblem(std::string_view op, const AnyProblem& problem, std::span<void* const> tensors);
  PluginProblem(const PluginProblem&) = delete;
  PluginProblem& operator=(const PluginProblem&) = delete;

  const AttnbenchProblem* get() const { return &problem_; }

 private:
  std::string op_;
  std::vector<FieldValue> values_;
  std::vector<std::string> names_;  // of the tensors
  std::vector<AttnbenchField> fields_;
  std::vector<AttnbenchTensor> tensors_;
  AttnbenchProblem problem_{};
};

/// Points into `device`.
AttnbenchDevice plugin_device(const DeviceInfo& device);

}  // namespace attn
