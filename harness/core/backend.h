// What a backend is: plain data, a description and a few functions.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/core/numerics.h"
#include "harness/core/status.h"
#include "harness/core/tensor_view.h"

namespace attn {

/// The machine that a problem runs on. Filled by the harness; backends only read it.
struct DeviceInfo {
  MemorySpace space = MemorySpace::kHost;  ///< kHost or kDevice
  std::string name;
  int sm = 0;  ///< compute capability as 10 * major + minor; 0 on a CPU
  int sm_count = 0;
  std::size_t shared_bytes_per_block = 0;  ///< largest opt-in dynamic shared memory of a CTA
  std::size_t l2_bytes = 0;
  std::size_t total_bytes = 0;
  int threads = 1;  ///< host threads
};

/// A cudaStream_t without the CUDA headers; null on the host.
struct Stream {
  void* handle = nullptr;
};

/// Scratch memory of a launch, 256-byte aligned, contents undefined.
struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

/// A kernel that a launch uses, for the row's resource report.
struct KernelUse {
  const void* function = nullptr;  ///< the address of a __global__ function
  std::size_t dynamic_shared_bytes = 0;
  int threads = 0;  ///< of a CTA; 0: not told, and the row has no occupancy
};

/// One launch, bound to one problem, one set of tensors and one workspace.
struct Launch {
  /// Enqueues the work: neither allocates, nor synchronises, nor touches the host copy. On the host
  /// it runs to completion.
  std::function<void(Stream)> enqueue;
  /// What was chosen for this problem ("key splits 12"), for the row.
  std::string note{};
  std::vector<KernelUse> kernels{};
  /// The error bound of this problem's result, where the backend has no single one; BackendInfo's is
  /// then the loosest.
  std::optional<NumericsClass> numerics{};
};

struct BackendInfo {
  std::string_view id;       ///< equals the file stem
  std::string_view summary;  ///< one line: what it does that the previous one does not
  MemorySpace memory = MemorySpace::kDevice;  ///< kAny: runs wherever the tensors are
  std::string_view math;                      ///< e.g. "fp16 mma, fp32 accumulate, ex2.approx"
  NumericsClass numerics = NumericsClass::kFp32;
  bool deterministic = true;  ///< bitwise equal from run to run
};

/// Yes to every problem: `supports` of a backend that takes the whole contract.
template <class Op>
Support takes_everything(const typename Op::Problem&, const DeviceInfo&) {
  return Support::yes();
}

template <class Op>
struct Backend {
  BackendInfo info;
  /// Pure: no CUDA call. The problem has passed Op::validate.
  Support (*supports)(const typename Op::Problem&, const DeviceInfo&) = takes_everything<Op>;
  /// Bytes of scratch memory beyond the tensors; null means none. Pure.
  std::size_t (*workspace_bytes)(const typename Op::Problem&, const DeviceInfo&) = nullptr;
  Launch (*plan)(const typename Op::Problem&,
                 const typename Op::Tensors&,
                 Workspace,
                 const DeviceInfo&);
  /// Returns memory that a library behind the backend caches, so that the next cell's `hidden` is
  /// its own; null where nothing is cached.
  void (*trim)() = nullptr;
};

/// One line of an operator's backend list; `backend` is null where this build leaves it out.
template <class Op>
struct BackendSlot {
  std::string_view id;
  const Backend<Op>* backend = nullptr;
};

}  // namespace attn
