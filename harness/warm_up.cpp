// The end of a warm-up.
#include "harness/warm_up.h"

#include <algorithm>
#include <array>

namespace attn {
namespace {

constexpr std::size_t kBins = 5;  // means over a bin: one reading is as coarse as the GPU's timer
constexpr double kSpread = 0.005;
constexpr double kBlindSeconds = 0.05;

}  // namespace

void ClockWatch::add(double now_s, double mhz) {
  readings_.emplace_back(now_s, mhz);
  while (now_s - readings_.front().first >= kWarmWindowSeconds) {
    readings_.pop_front();
    full_ = true;
  }
}

bool ClockWatch::steady() const {
  if (!full_ || readings_.empty()) return false;
  std::array<double, kBins> sum{};
  std::array<int, kBins> count{};
  for (const auto& [at, mhz] : readings_) {
    const double age = readings_.back().first - at;
    const auto bin =
        std::min(static_cast<std::size_t>(age / kWarmWindowSeconds * kBins), kBins - 1);
    sum[bin] += mhz;
    ++count[bin];
  }
  double least = sum[0] / count[0];  // the newest reading is in the first bin
  double most = least;
  for (std::size_t bin = 1; bin < kBins; ++bin) {
    if (count[bin] == 0) continue;  // a step took longer
    least = std::min(least, sum[bin] / count[bin]);
    most = std::max(most, sum[bin] / count[bin]);
  }
  return most - least < kSpread * most;
}

bool warm_up(const WarmStep& step, const std::function<double()>& now_s, double most_s) {
  const double start = now_s();
  ClockWatch watch;
  for (;;) {
    const std::optional<double> mhz = step();
    const double now = now_s();
    if (mhz) watch.add(now, *mhz);
    if (!mhz && now - start >= kBlindSeconds) return true;
    if (watch.steady()) return true;
    if (now - start >= most_s) return false;
  }
}

}  // namespace attn
