// Wall-clock samples on the CPU.
#include "harness/host_timer.h"

#include <chrono>
#include <vector>

#include "harness/host_clock.h"
#include "harness/host_memory.h"

namespace attn::host {

gpu::Samples time(const Launch& launch, bool cold, int count, std::size_t cache_bytes) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::uint32_t> flush(cold ? 2 * cache_bytes / sizeof(std::uint32_t) : 0);
  gpu::Samples samples;
  for (int i = 0; i < count; ++i) {
    fill_pattern(flush.data(), flush.size() * sizeof(std::uint32_t), static_cast<std::uint32_t>(i));
    const Clock::time_point start = Clock::now();
    launch.enqueue({});
    samples.ns.push_back(std::chrono::duration<double, std::nano>(Clock::now() - start).count());
    if (const std::optional<double> mhz = clock_mhz()) samples.mhz.push_back(*mhz);
  }
  samples.host_launch_ns = {0};  // the launch is the work
  samples.flush_bytes = flush.size() * sizeof(std::uint32_t);
  return samples;
}

}  // namespace attn::host
