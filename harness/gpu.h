// All that the harness asks of a GPU. gpu_*_cuda.cu implement it; gpu_none.cpp stands in where the
// build has no CUDA and says so. Errors of the device are exceptions (CudaError, std::bad_alloc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/comparison.h"
#include "harness/core/backend.h"
#include "harness/core/input_family.h"
#include "harness/core/operator.h"
#include "harness/core/tensor_view.h"

namespace attn::gpu {

/// Facts for the run record; missing ones are empty.
struct Facts {
  DeviceInfo info;
  std::string driver;   ///< kernel driver's version
  std::string runtime;  ///< CUDA runtime this build links, "13.0"
  std::optional<bool> ecc;
  std::optional<int> sm_clock_mhz;
  std::optional<int> memory_clock_mhz;
};

/// The GPU that cells run on; empty with one sentence in `why` when there is none.
std::optional<Facts> find(std::string& why);

void* allocate(std::size_t bytes);  ///< throws std::bad_alloc when memory runs out
void release(void* data) noexcept;
std::size_t free_bytes();
void copy_to_host(void* host, const void* device, std::size_t bytes);
/// From host or device memory.
void copy_to_device(void* device, const void* from, std::size_t bytes);
/// Repeats the 32-bit pattern over `bytes` (a multiple of 4).
void fill_pattern(void* data, std::size_t bytes, std::uint32_t pattern);
/// Writes the family's values to the elements of the tensor; padding is left alone.
void fill_input(const TensorSpec& spec, void* storage, InputFamily family, std::uint64_t key);
/// A position-dependent hash of the bytes (a multiple of 4), equal to the host's hash_words.
std::uint64_t hash(const void* data, std::size_t bytes);
/// Whether two arrays in device memory hold the same bits (a multiple of 2 bytes).
bool same_bits(const void* a, const void* b, std::size_t bytes);
/// Compares answer.elements elements in device memory with the answer. Tolerances are the rounding to
/// `dtype` plus the answer's errors, if it has any.
Comparison compare(const void* output, DType dtype, const DeviceAnswer& answer);

/// Runs the launch once and waits; throws what went wrong.
void run(const Launch& launch);
/// Runs the launch once between cudaProfilerStart and -Stop, inside an NVTX range of this name.
void profile(const Launch& launch, const std::string& range);
/// After a device error: clears it if the context survived, and says whether it did.
bool recover() noexcept;

struct Samples {
  std::vector<double> ns;              ///< GPU time of each sample, in order
  std::vector<double> host_launch_ns;  ///< host time of each enqueue
  std::vector<double> mhz;             ///< clock while each sample ran; empty where nothing tells
  std::size_t flush_bytes = 0;         ///< written before each sample, counted on the device
  bool gated = true;                   ///< the queue was full before the first sample began
};

/// Times `count` runs between events on a gated stream. Cold: a buffer of at least twice the L2 is
/// written before each sample.
Samples time(const Launch& launch, bool cold, int count);

/// A launch captured in a CUDA graph.
struct Graph {
  Launch replay;
  std::size_t kernels = 0;  ///< nodes that are kernels
};
/// Captures the launch without running it; throws when it does what no graph can hold.
Graph capture(const Launch& launch);

struct KernelResources {
  std::string name;
  int registers = 0;
  std::size_t spill_bytes = 0;        ///< local memory a thread
  std::size_t shared_bytes = 0;       ///< static plus dynamic
  std::optional<int> ctas_per_sm{};   ///< that fit at once
  std::optional<double> occupancy{};  ///< their warps, as a share of the warps that an SM holds
};
KernelResources describe(const KernelUse& use);

/// Share of an SM's warps that are resident with `ctas` CTAs of `threads` threads; a CTA takes whole
/// warps.
constexpr double occupancy_of(int ctas, int threads, int most_threads) {
  constexpr int kWarp = 32;
  const int warps = (threads + kWarp - 1) / kWarp;
  return static_cast<double>(ctas * warps * kWarp) / most_threads;
}

}  // namespace attn::gpu
