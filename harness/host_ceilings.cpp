// The CPU's copy and multiply-add rates, all threads together.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <vector>

#include "harness/ceilings.h"

namespace attn::host {
namespace {

constexpr int kSamples = 20;

template <class Work>
double best_seconds(Work&& work) {
  using Clock = std::chrono::steady_clock;
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kSamples; ++i) {
    const Clock::time_point start = Clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

double copy_rate() {
  constexpr std::int64_t kBytes = std::int64_t{256} << 20;
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  std::vector<char> from(kBytes, 1);
  std::vector<char> to(kBytes);
  const double seconds = best_seconds([&] {
#pragma omp parallel for
    for (std::int64_t at = 0; at < kBytes; at += kPiece)
      std::memcpy(to.data() + at, from.data() + at, kPiece);
  });
  return 2.0 * kBytes / seconds;
}

constexpr int kLanes = 16;
constexpr int kChains = 8;  // independent vectors in flight
constexpr int kIterations = 1 << 20;

using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

/// kIterations multiply-adds on kChains vectors; returns a value that depends on all of them.
#if defined(__x86_64__)
__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
float
multiply_add(float seed) {
  Lanes x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = Lanes{} + seed * static_cast<float>(c + 1);
  for (int i = 0; i < kIterations; ++i) {
    for (int c = 0; c < kChains; ++c) x[c] = x[c] * seed + 0.5f;
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += x[c][0];
  return sum;
}

/// multiply_add on every thread; returns their number. The sum enters the result so that no compiler
/// may drop the loop; it is far below one thread.
double multiply_add_on_all_threads() {
  double threads = 0;
  float sink = 0;
#pragma omp parallel reduction(+ : threads, sink)
  {
    threads += 1;
    sink += multiply_add(0.25f);
  }
  return threads + 1e-30 * sink;
}

double ffma_rate() {
  double threads = 0;
  const double seconds = best_seconds([&] { threads = multiply_add_on_all_threads(); });
  return threads * 2.0 * kLanes * kChains * kIterations / seconds;
}

}  // namespace

Ceilings measure_ceilings() { return {.copy_Bps = copy_rate(), .ffma_flops = ffma_rate()}; }

Launch sentinel() {
  return {.enqueue = [](Stream) { multiply_add_on_all_threads(); }};
}

}  // namespace attn::host
