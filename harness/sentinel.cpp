// Times the sentinel.
#include "harness/sentinel.h"

#include <algorithm>
#include <chrono>

#include "harness/ceilings.h"
#include "harness/host_timer.h"

namespace attn {

double sentinel_ns(const Machine& machine) {
  using Clock = std::chrono::steady_clock;
  constexpr int kSamples = 21;
  const bool on_device = machine.gpu.has_value();
  const std::chrono::milliseconds warm_up(on_device ? 300 : 50);  // an idle GPU wakes up slowly
  const Launch launch = on_device ? gpu::sentinel() : host::sentinel();
  const auto take = [&](int count) {
    return on_device ? gpu::time(launch, /*cold=*/false, count)
                     : host::time(launch, /*cold=*/false, count, 0);
  };
  const Clock::time_point start = Clock::now();
  while (Clock::now() - start < warm_up) take(1);
  return summarise(take(kSamples).ns).median;
}

double drift_of(const std::vector<double>& times_ns) {
  if (times_ns.empty()) return 0;
  const auto [least, most] = std::minmax_element(times_ns.begin(), times_ns.end());
  return *most / *least - 1;
}

}  // namespace attn
