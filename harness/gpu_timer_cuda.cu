// GPU time between events on a gated stream: a spinning kernel holds the stream until every call of a
// batch is queued, so that the host's delays never enter a sample.
#include <algorithm>
#include <chrono>

#include "harness/core/cuda_check.h"
#include "harness/gpu.h"
#include "harness/gpu_stream.cuh"

namespace attn::gpu {
namespace {

constexpr int kBatch = 6;                          // samples queued behind one gate
constexpr long long kGateTimeoutNs = 200'000'000;  // a host that blocks must not hang the stream

/// Spins until the host opens gate number `ticket`; sets *expired when it gives up first.
__global__ void gate_kernel(const volatile int* opened, int ticket, int* expired) {
  long long start = 0;
  long long now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(start));  // PTX ISA, special registers
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    if (now - start > kGateTimeoutNs) {
      *expired = 1;
      return;
    }
  } while (*opened < ticket);
}

/// Writes `count` 16-byte words and adds the bytes it wrote to *visited.
__global__ void flush_kernel(uint4* words,
                             std::size_t count,
                             unsigned value,
                             unsigned long long* visited) {
  unsigned long long written = 0;
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    words[i] = make_uint4(value, value, value, value);
    written += sizeof(uint4);
  }
  for (int offset = 16; offset > 0; offset /= 2)
    written += __shfl_xor_sync(0xffffffffu, written, offset);
  if (threadIdx.x % 32 == 0) atomicAdd(visited, written);
}

/// Device memory and a mapped host flag that live as long as one timing.
class TimingResources {
 public:
  explicit TimingResources(bool cold) {
    const std::size_t l2 = device_properties().l2CacheSize;
    // Twice the L2 is enough to evict it; 256 MB is what the published numbers were taken with.
    flush_bytes_ = cold ? std::max<std::size_t>(2 * l2, std::size_t{256} << 20) : 0;
    if (cold) flush_ = allocate(flush_bytes_);
    counters_ = static_cast<unsigned long long*>(allocate(2 * sizeof(unsigned long long)));
    CUDA_CHECK(cudaMemset(counters_, 0, 2 * sizeof(unsigned long long)));
    CUDA_CHECK(cudaHostAlloc(&opened_, sizeof(int), cudaHostAllocMapped));
    *opened_ = 0;
    for (cudaEvent_t& event : events_) CUDA_CHECK(cudaEventCreate(&event));
  }
  ~TimingResources() {
    *opened_ = 1 << 30;  // whatever still spins lets go
    cudaStreamSynchronize(stream());
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
    cudaFreeHost(const_cast<int*>(opened_));
    release(counters_);
    if (flush_) release(flush_);
  }
  TimingResources(const TimingResources&) = delete;
  TimingResources& operator=(const TimingResources&) = delete;

  void close_gate() {
    int* device_flag = nullptr;
    CUDA_CHECK(cudaHostGetDevicePointer(&device_flag, const_cast<int*>(opened_), 0));
    gate_kernel<<<1, 1, 0, stream()>>>(device_flag, ++ticket_,
                                       reinterpret_cast<int*>(counters_ + 1));
    CUDA_CHECK_LAUNCH();
  }
  void open_gate() { *opened_ = ticket_; }
  void flush() {
    if (!flush_) return;
    flush_kernel<<<4 * device_properties().multiProcessorCount, 512, 0, stream()>>>(
        static_cast<uint4*>(flush_), flush_bytes_ / sizeof(uint4), static_cast<unsigned>(ticket_),
        counters_);
    CUDA_CHECK_LAUNCH();
  }
  cudaEvent_t event(int i) const { return events_[i]; }
  unsigned long long flushed_bytes() const { return counter(0); }
  bool gate_expired() const { return counter(1) != 0; }

 private:
  unsigned long long counter(int i) const {
    unsigned long long value = 0;
    copy_to_host(&value, counters_ + i, sizeof value);
    return value;
  }

  void* flush_ = nullptr;
  std::size_t flush_bytes_ = 0;
  unsigned long long* counters_ = nullptr;  // [bytes flushed, gate expired]
  volatile int* opened_ = nullptr;
  int ticket_ = 0;
  cudaEvent_t events_[2 * kBatch];
};

/// Queues `count` <= kBatch samples behind the gate, opens it and appends their times.
void time_batch(TimingResources& resources, const Launch& launch, int count, Samples& samples) {
  using Clock = std::chrono::steady_clock;
  resources.close_gate();
  for (int i = 0; i < count; ++i) {
    resources.flush();
    CUDA_CHECK(cudaEventRecord(resources.event(2 * i), stream()));
    const Clock::time_point start = Clock::now();
    launch.enqueue({stream()});
    samples.host_launch_ns.push_back(
        std::chrono::duration<double, std::nano>(Clock::now() - start).count());
    CUDA_CHECK(cudaEventRecord(resources.event(2 * i + 1), stream()));
  }
  resources.open_gate();
  CUDA_CHECK(cudaStreamSynchronize(stream()));
  for (int i = 0; i < count; ++i) {
    float ms = 0;
    CUDA_CHECK(cudaEventElapsedTime(&ms, resources.event(2 * i), resources.event(2 * i + 1)));
    samples.ns.push_back(1e6 * ms);
  }
}

}  // namespace

Samples time(const Launch& launch, bool cold, int count) {
  CUDA_CHECK(cudaCtxResetPersistingL2Cache());
  TimingResources resources(cold);
  Samples samples;
  for (int left = count; left > 0; left -= kBatch)
    time_batch(resources, launch, std::min(left, kBatch), samples);
  samples.gated = !resources.gate_expired();
  samples.flush_bytes = resources.flushed_bytes() / static_cast<std::size_t>(count);
  return samples;
}

}  // namespace attn::gpu
