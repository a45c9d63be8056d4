// The C structs of a problem and a device.
#include "harness/plugin/plugin_problem.h"

#include <algorithm>
#include <cstdlib>

namespace attn {

static_assert(static_cast<int>(MemorySpace::kHost) == ATTNBENCH_HOST &&
                  static_cast<int>(MemorySpace::kDevice) == ATTNBENCH_DEVICE &&
                  static_cast<int>(MemorySpace::kAny) == ATTNBENCH_ANY,
              "plugins number memory spaces as the core does");
static_assert(static_cast<int>(DType::kF16) == ATTNBENCH_F16 &&
                  static_cast<int>(DType::kBF16) == ATTNBENCH_BF16 &&
                  static_cast<int>(DType::kF32) == ATTNBENCH_F32,
              "plugins number types as the core does");

PluginProblem::PluginProblem(std::string_view op,
                             const AnyProblem& problem,
                             std::span<void* const> tensors)
    : op_(op), values_(problem.fields()) {
  for (const FieldValue& value : values_) {
    const bool size = value.kind == FieldKind::kSize;
    const bool integer = value.kind == FieldKind::kInteger;
    fields_.push_back({.name = value.name.c_str(),
                       .text = value.text.c_str(),
                       .number = size      ? value.number
                                 : integer ? std::strtoll(value.text.c_str(), nullptr, 10)
                                           : 0,
                       .is_default = value.is_default});
  }
  const std::vector<TensorSpec> specs = problem.tensor_specs();
  for (const TensorSpec& spec : specs) names_.emplace_back(spec.name);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    AttnbenchTensor& tensor = tensors_.emplace_back();
    tensor.name = names_[i].c_str();
    tensor.data = tensors.empty() ? nullptr : specs[i].bind(tensors[i]).data;
    tensor.dtype = static_cast<std::int32_t>(specs[i].dtype);
    std::copy(specs[i].shape.begin(), specs[i].shape.end(), tensor.shape);
    std::copy(specs[i].strides.begin(), specs[i].strides.end(), tensor.strides);
  }
  problem_ = {.size = sizeof(AttnbenchProblem),
              .op = op_.c_str(),
              .fields = fields_.data(),
              .field_count = fields_.size(),
              .tensors = tensors_.data(),
              .tensor_count = tensors_.size()};
}

AttnbenchDevice plugin_device(const DeviceInfo& device) {
  return {.size = sizeof(AttnbenchDevice),
          .space = static_cast<std::int32_t>(device.space),
          .name = device.name.c_str(),
          .sm = device.sm,
          .sm_count = device.sm_count,
          .shared_bytes_per_block = device.shared_bytes_per_block,
          .l2_bytes = device.l2_bytes,
          .total_bytes = device.total_bytes,
          .threads = device.threads};
}

}  // namespace attn
