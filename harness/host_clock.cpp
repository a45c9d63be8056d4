// A chain of dependent 64-bit multiplications: each waits three cycles for the one before.
#include "harness/host_clock.h"

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace attn::host {
namespace {

constexpr int kLinks = 20000;  // some 20 us
constexpr int kTries = 3;      // an interrupt spoils one

// 3 cycles: imul r64 of Intel since Nehalem and of AMD since Zen (Agner Fog, instruction tables).
#if defined(__x86_64__)
constexpr double kCyclesPerLink = 3;
#else
constexpr double kCyclesPerLink = 0;
#endif

}  // namespace

std::optional<double> clock_mhz() {
  using Clock = std::chrono::steady_clock;
  if (kCyclesPerLink == 0) return std::nullopt;
  volatile std::uint64_t opaque = 0x9E3779B97F4A7C15ull;  // a factor that no compiler knows
  double least_ns = 1e18;
  for (int i = 0; i < kTries; ++i) {
    const std::uint64_t factor = opaque;
    std::uint64_t product = factor;
    const Clock::time_point start = Clock::now();
    for (int link = 0; link < kLinks; ++link) product *= factor;
    opaque = product | 1;  // the chain ends before the clock is read again
    const std::chrono::duration<double, std::nano> time = Clock::now() - start;
    least_ns = std::min(least_ns, time.count());
  }
  return 1e3 * kLinks * kCyclesPerLink / least_ns;
}

}  // namespace attn::host
