// Any operator's problem with its tensors on the host: filled, changed, run on a backend or the oracle.
#pragma once

#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "harness/buffer.h"
#include "harness/environment.h"
#include "harness/gpu.h"
#include "harness/host_memory.h"
#include "harness/seed.h"

#if ATTN_WITH_CUDA
#include "harness/core/cuda_check.h"
#endif

namespace attn {

template <class Op>
class OpCase {
 public:
  typename Op::Problem problem;

  explicit OpCase(const typename Op::Problem& p, std::uint64_t seed = 1)
      : problem(p), specs_(Op::tensor_specs(p)) {
    for (const TensorSpec& spec : specs_) {
      storage_.emplace_back(spec.storage_bytes() + 4);
      if (spec.role != TensorRole::kOutput)
        host::fill_input(spec, storage_.back().data(), InputFamily::kNormal,
                         tensor_key(seed, "", spec.label()));
    }
  }

  typename Op::Tensors tensors() {
    std::vector<void*> pointers;
    for (auto& bytes : storage_) pointers.push_back(bytes.data());
    return Op::bind(problem, pointers);
  }
  typename Op::Reference oracle() { return Op::oracle(problem, tensors()); }

  /// Elements of a dense tensor, in order.
  std::vector<double> values(std::string_view name, std::int64_t plane = -1) {
    const std::size_t index = find(name, plane);
    std::vector<double> all;
    for (std::int64_t i = 0; i < specs_[index].elements(); ++i)
      all.push_back(load_element(storage_[index].data(), specs_[index].dtype, i));
    return all;
  }
  float get(std::string_view name, std::int64_t plane, std::int64_t element) {
    const std::size_t index = find(name, plane);
    return load_element(storage_[index].data(), specs_[index].dtype, element);
  }
  void set(std::string_view name, std::int64_t plane, std::int64_t element, float value) {
    const std::size_t index = find(name, plane);
    store_element(storage_[index].data(), specs_[index].dtype, element, value);
  }
  void set_all(std::string_view name, std::int64_t plane, const std::vector<double>& from) {
    for (std::size_t i = 0; i < from.size(); ++i)
      set(name, plane, static_cast<std::int64_t>(i), static_cast<float>(from[i]));
  }

  /// Runs the backend where it belongs; its outputs come back to the case.
  void run(const Backend<Op>& backend, const Machine& machine) {
    const DeviceInfo& device = machine.device_for(backend.info);
    std::vector<Buffer> buffers;
    std::vector<void*> pointers;
    for (const auto& bytes : storage_) {
      buffers.emplace_back(device.space, bytes.size());
      upload(buffers.back(), bytes);
      pointers.push_back(buffers.back().data());
    }
    Buffer workspace(device.space,
                     backend.workspace_bytes ? backend.workspace_bytes(problem, device) : 0);
    workspace.poison(0xFFFFFFFFu);
    const Launch launch = backend.plan(problem, Op::bind(problem, pointers),
                                       {workspace.data(), workspace.bytes()}, device);
    if (device.space == MemorySpace::kDevice) {
      gpu::run(launch);
    } else {
      launch.enqueue({});
    }
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (is_written(specs_[i].role)) storage_[i] = buffers[i].to_host();
    }
  }

 private:
  std::size_t find(std::string_view name, std::int64_t plane) const {
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i].name == name && specs_[i].plane == plane) return i;
    }
    throw std::logic_error("a test names a tensor that there is not");
  }
  static void upload(const Buffer& buffer, const std::vector<std::byte>& bytes) {
#if ATTN_WITH_CUDA
    if (buffer.space() == MemorySpace::kDevice) {
      CUDA_CHECK(cudaMemcpy(buffer.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
      return;
    }
#endif
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
  }

  std::vector<TensorSpec> specs_;
  std::vector<std::vector<std::byte>> storage_;
};

}  // namespace attn
