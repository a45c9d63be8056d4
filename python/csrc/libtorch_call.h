// What the calls of all operators share: names of options, types, and a launch where the tensors are, in
// memory of the device's caching allocator.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/util/string_view.h>

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "harness/core/backend.h"
#include "python/csrc/libtorch_device.h"

namespace attn {

/// The enumerator of that name; an error names them all.
template <class Enum, std::size_t kCount>
Enum choice(const char* op,
            const char* argument,
            c10::string_view text,
            const std::array<std::string_view, kCount>& names) {
  for (std::size_t i = 0; i < kCount; ++i)
    if (names[i] == std::string_view(text.data(), text.size())) return static_cast<Enum>(i);
  std::string all;
  for (const std::string_view name : names) all.append(all.empty() ? "" : ", ").append(name);
  TORCH_CHECK_VALUE(false, op, ": ", argument, " must be one of ", all, ", not '", text, "'");
}

inline c10::string_view text_of(std::string_view text) { return {text.data(), text.size()}; }

/// Empty where the backends do not take the type.
std::optional<DType> dtype_of(at::ScalarType type);

/// Loads of 16 bytes need such addresses: a view that begins in between is copied on a GPU.
at::Tensor loadable(const at::Tensor& tensor);

/// The machine that the tensors lie on; of a CPU as many threads as LibTorch has.
DeviceInfo device_of(c10::Device where);

/// The stream that work on tensors there goes to now.
Stream stream_of(c10::Device where);

/// Memory of the device's allocator, 256-byte aligned, with undefined contents.
class Scratch {
 public:
  Scratch(std::size_t bytes, c10::Device where);
  Workspace workspace() const { return workspace_; }

 private:
  c10::DataPtr memory_;
  Workspace workspace_;
};

/// Enqueues one launch of the backend on the current stream; on a CPU it runs to completion.
template <class Op>
void launch(const Backend<Op>& backend,
            const typename Op::Problem& p,
            const typename Op::Tensors& tensors,
            const DeviceInfo& device,
            c10::Device where) {
  const Scratch scratch(backend.workspace_bytes ? backend.workspace_bytes(p, device) : 0, where);
  backend.plan(p, tensors, scratch.workspace(), device).enqueue(stream_of(where));
}

}  // namespace attn
