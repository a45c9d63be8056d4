// GPU time between events on a gated stream: a spinning kernel holds the stream until every call of a
// batch is queued, so that the host's delays never enter a sample. Outside the events every SM stamps
// its cycle counter and the time: the clock that the sample ran at.
#include <algorithm>
#include <chrono>
#include <optional>
#include <vector>

#include "harness/core/cuda_check.h"
#include "harness/gpu.h"
#include "harness/gpu_stream.cuh"

namespace attn::gpu {
namespace {

constexpr int kBatch = 6;                          // samples queued behind one gate
constexpr int kSmSlots = 512;                      // SM numbers may have gaps (PTX ISA, %nsmid)
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

/// What an SM's counters show at one moment: cycles of that SM, and ns; zeros where it was not read.
using Stamp = ulonglong2;

/// One CTA of one thread for every SM; an idle GPU gives each its own. stamps [kSmSlots].
__global__ void stamp_kernel(Stamp* stamps) {
  unsigned sm = 0;
  unsigned long long ns = 0;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));         // PTX ISA, special registers
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));  // PTX ISA, special registers
  if (sm < kSmSlots) stamps[sm] = {static_cast<unsigned long long>(clock64()), ns};
}

/// MHz between two stamps of every SM: the median over those that were read both times.
std::optional<double> clock_between(const Stamp* before, const Stamp* after) {
  std::vector<double> mhz;
  for (int sm = 0; sm < kSmSlots; ++sm) {
    if (before[sm].y == 0 || after[sm].y <= before[sm].y || after[sm].x <= before[sm].x) continue;
    mhz.push_back(1e3 * static_cast<double>(after[sm].x - before[sm].x) /
                  static_cast<double>(after[sm].y - before[sm].y));
  }
  if (mhz.empty()) return std::nullopt;
  const auto middle = mhz.begin() + static_cast<std::ptrdiff_t>(mhz.size() / 2);
  std::nth_element(mhz.begin(), middle, mhz.end());
  return *middle;
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
    stamps_ = static_cast<Stamp*>(allocate(kStampBytes));
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
    release(stamps_);
    if (flush_) release(flush_);
  }
  TimingResources(const TimingResources&) = delete;
  TimingResources& operator=(const TimingResources&) = delete;

  void close_gate() {
    CUDA_CHECK(cudaMemsetAsync(stamps_, 0, kStampBytes, stream()));
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
  /// Number i of the batch: 2 * sample before it, 2 * sample + 1 after it.
  void stamp(int i) {
    stamp_kernel<<<device_properties().multiProcessorCount, 1, 0, stream()>>>(stamps_ +
                                                                              i * kSmSlots);
    CUDA_CHECK_LAUNCH();
  }
  /// The clock of each of the batch's first `count` samples; the stream is idle.
  std::vector<std::optional<double>> clocks(int count) const {
    std::vector<Stamp> stamps(2 * kBatch * kSmSlots);
    copy_to_host(stamps.data(), stamps_, kStampBytes);
    std::vector<std::optional<double>> mhz;
    for (const Stamp* at = stamps.data(); count > 0; --count, at += 2 * kSmSlots)
      mhz.push_back(clock_between(at, at + kSmSlots));
    return mhz;
  }
  cudaEvent_t event(int i) const { return events_[i]; }
  unsigned long long flushed_bytes() const { return counter(0); }
  bool gate_expired() const { return counter(1) != 0; }

 private:
  static constexpr std::size_t kStampBytes = 2 * kBatch * kSmSlots * sizeof(Stamp);

  unsigned long long counter(int i) const {
    unsigned long long value = 0;
    copy_to_host(&value, counters_ + i, sizeof value);
    return value;
  }

  void* flush_ = nullptr;
  std::size_t flush_bytes_ = 0;
  Stamp* stamps_ = nullptr;                 // [2 * kBatch, kSmSlots]
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
    resources.stamp(2 * i);
    CUDA_CHECK(cudaEventRecord(resources.event(2 * i), stream()));
    const Clock::time_point start = Clock::now();
    launch.enqueue({stream()});
    samples.host_launch_ns.push_back(
        std::chrono::duration<double, std::nano>(Clock::now() - start).count());
    CUDA_CHECK(cudaEventRecord(resources.event(2 * i + 1), stream()));
    resources.stamp(2 * i + 1);
  }
  resources.open_gate();
  CUDA_CHECK(cudaStreamSynchronize(stream()));
  for (int i = 0; i < count; ++i) {
    float ms = 0;
    CUDA_CHECK(cudaEventElapsedTime(&ms, resources.event(2 * i), resources.event(2 * i + 1)));
    samples.ns.push_back(1e6 * ms);
  }
  for (const std::optional<double> mhz : resources.clocks(count)) {
    if (mhz) samples.mhz.push_back(*mhz);
  }
}

}  // namespace

Samples time(const Launch& launch, bool cold, int count) {
  CUDA_CHECK(cudaCtxResetPersistingL2Cache());
  TimingResources resources(cold);
  Samples samples;
  for (int left = count; left > 0; left -= kBatch)
    time_batch(resources, launch, std::min(left, kBatch), samples);
  if (samples.mhz.size() < samples.ns.size()) samples.mhz.clear();  // no sample may get another's
  samples.gated = !resources.gate_expired();
  samples.flush_bytes = resources.flushed_bytes() / static_cast<std::size_t>(count);
  return samples;
}

}  // namespace attn::gpu
