// Runs one backend of the column reduction on a HostCase, on the CPU or the GPU.
#pragma once

#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/buffer.h"
#include "harness/environment.h"
#include "harness/gpu.h"
#include "tests/host_case.h"

#if ATTN_WITH_CUDA
#include "harness/core/cuda_check.h"
#endif

namespace attn {

class Evaluator {
 public:
  static std::vector<std::string> backend_ids() {
    std::vector<std::string> ids;
    for (const auto& slot : ColReduce::backends()) ids.emplace_back(slot.id);
    return ids;
  }

  /// The backend called `id`, or empty and why it cannot run here.
  static std::optional<Evaluator> find(const std::string& id, std::string& why) {
    Evaluator evaluator;
    evaluator.machine_ = find_machine(true);
    for (const auto& slot : ColReduce::backends()) {
      if (slot.id == id) evaluator.backend_ = slot.backend;
    }
    if (!evaluator.backend_) {
      why = id + " is not in this build";
      return std::nullopt;
    }
    if (evaluator.info().memory == MemorySpace::kDevice && !evaluator.machine_.gpu) {
      why = id + " needs a GPU: " + evaluator.machine_.why_no_gpu;
      return std::nullopt;
    }
    return evaluator;
  }

  const BackendInfo& info() const { return backend_->info; }
  Support supports(const ColReduce::Problem& p) const { return backend_->supports(p, device()); }

  /// `out` as fp32, in the order of [B, H, N]. What other outputs hold comes back to the case. Throws
  /// std::logic_error where the backend does not take the problem.
  std::vector<float> run(HostCase& c) const {
    if (const Support support = supports(c.problem); !support)
      throw std::logic_error("a test runs what is refused: " + support.reason);
    const MemorySpace space = device().space;
    std::vector<Buffer> buffers;
    std::vector<void*> pointers;
    for (std::size_t i = 0; i < c.specs().size(); ++i) {
      const std::vector<std::byte>& bytes = c.storage(i);
      buffers.emplace_back(space, bytes.size());
      upload(buffers.back(), bytes);
      pointers.push_back(buffers.back().data());
    }
    const std::size_t bytes =
        backend_->workspace_bytes ? backend_->workspace_bytes(c.problem, device()) : 0;
    Buffer workspace(space, bytes);
    workspace.poison(0xFFFFFFFFu);
    const Launch launch = backend_->plan(c.problem, ColReduce::bind(c.problem, pointers),
                                         {workspace.data(), bytes}, device());
    if (space == MemorySpace::kDevice) {
      gpu::run(launch);
    } else {
      launch.enqueue({});
    }
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (c.specs()[i].role == TensorRole::kOutput) c.storage(i) = buffers[i].to_host();
    }
    std::vector<float> out(c.outputs());
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = load_element(c.storage(2).data(), c.problem.out_dtype, static_cast<std::int64_t>(i));
    return out;
  }

 private:
  const DeviceInfo& device() const { return machine_.device_for(info()); }
  static void upload(const Buffer& buffer, const std::vector<std::byte>& bytes) {
#if ATTN_WITH_CUDA
    if (buffer.space() == MemorySpace::kDevice) {
      CUDA_CHECK(cudaMemcpy(buffer.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
      return;
    }
#endif
    std::memcpy(buffer.data(), bytes.data(), bytes.size());
  }

  Machine machine_;
  const Backend<ColReduce>* backend_ = nullptr;
};

}  // namespace attn
