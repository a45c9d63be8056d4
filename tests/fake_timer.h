// A timer whose noise is known: it drives the real blocks, stop rule and decision in tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <random>

#include "harness/gather.h"

namespace attn {

/// What a machine does to a kernel's time, as standard deviations or sizes of the logarithm.
struct Noise {
  double white = 0.01;
  double correlated = 0;   ///< AR(1) beside the white noise
  double memory = 0;       ///< AR(1) coefficient from sample to sample
  double outliers = 0;     ///< probability of a sample that takes half as long again
  double ramp = 0;         ///< over the expected length of a process
  double step = 0;         ///< once a process, at a random sample
  double processes = 0;    ///< of a process's own ratio between the arms, from its memory layout
  double clock_share = 0;  ///< of A's clock that B is missing
  double place = 0;        ///< of the middle half of every 20 samples
};

/// The samples of one process of one session.
class FakeTimer {
 public:
  FakeTimer(const Noise& noise, double ratio, std::uint64_t seed, int samples)
      : noise_(noise),
        generator_(seed),
        log_ratio_(std::log(ratio) + noise.processes * normal()),
        state_(noise.correlated * normal()),
        samples_(samples),
        step_at_(static_cast<int>(generator_() % static_cast<std::uint64_t>(samples))) {}

  double sample_ns(Arm arm) {
    state_ = noise_.memory * state_ +
             noise_.correlated * std::sqrt(1 - noise_.memory * noise_.memory) * normal();
    double log_time = std::log(1e5) + (arm == Arm::kB ? log_ratio_ : 0) + noise_.white * normal() +
                      state_ + noise_.ramp * taken_ / samples_;
    if (taken_ >= step_at_) log_time += noise_.step;
    if (taken_ % 20 >= 5 && taken_ % 20 < 15) log_time += noise_.place;
    if (uniform_(generator_) < noise_.outliers) log_time += std::log(1.5);
    ++taken_;
    return std::exp(log_time);
  }

  Group group(Arm arm) {
    Group group{.mhz = arm == Arm::kB ? 1980 * (1 - noise_.clock_share) : 1980};
    for (int i = 0; i < kGroupSamples; ++i) group.ns.push_back(sample_ns(arm));
    return group;
  }

 private:
  double normal() { return normal_(generator_); }

  Noise noise_;
  std::mt19937_64 generator_;
  std::normal_distribution<double> normal_{0, 1};
  std::uniform_real_distribution<double> uniform_{0, 1};
  double log_ratio_;
  double state_;
  int samples_;
  int step_at_;
  int taken_ = 0;
};

/// A process whose samples this timer takes.
inline BlockProcess process_of(const std::shared_ptr<FakeTimer>& timer) {
  return {.next =
              [timer](Arm first) {
                return measure_block([&](Arm arm) { return timer->group(arm); }, first);
              },
          .close = [] {}};
}

}  // namespace attn
