// Tensors, threads and errors of LibTorch.
#include "impls/common/libtorch_tensors.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <new>
#include <string_view>

namespace attn {
namespace {

/// LibTorch reports a full CPU as a plain error, with the allocator's name in the text.
bool out_of_memory(const c10::Error& error) {
  const std::string_view text = error.what();
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         text.find("can't allocate memory") != std::string_view::npos ||
         text.find("not enough memory") != std::string_view::npos;
}

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  constexpr std::array kTypes = {at::kHalf, at::kBFloat16, at::kFloat};
  return kTypes[static_cast<std::size_t>(dtype)];
}

at::Tensor wrap(const TensorView& view, MemorySpace space) {
  const auto device = space == MemorySpace::kHost ? at::kCPU : at::kCUDA;
  return at::from_blob(view.data, view.shape, view.strides,
                       at::TensorOptions().dtype(scalar_type(view.dtype)).device(device));
}

Launch torch_launch(const DeviceInfo& device, const std::function<void(MemorySpace)>& work) {
  const int threads = std::max(1, device.threads);
  if (device.space == MemorySpace::kHost && at::get_num_threads() != threads)
    at::set_num_threads(threads);
  Launch launch;
  launch.enqueue = [work, space = device.space](Stream stream) {
    try {
      with_torch_stream(space, stream, [&] {
        const c10::InferenceMode no_autograd;
        work(space);
      });
    } catch (const c10::Error& error) {
      if (out_of_memory(error)) throw std::bad_alloc();
      throw;
    }
  };
  return launch;
}

}  // namespace attn
