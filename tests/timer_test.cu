// The GPU's clock: host delays do not enter samples, cold is proven by counting, a blocked host shows.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "harness/ceilings.h"
#include "harness/core/cuda_check.h"
#include "harness/gpu.h"
#include "harness/statistics.h"

namespace attn {
namespace {

__global__ void spin(long long cycles) {
  const long long start = clock64();
  while (clock64() - start < cycles) {
  }
}

/// A launch of about 200 us whose host side takes `delay` longer than it needs.
Launch delayed(std::chrono::microseconds delay) {
  return {.enqueue = [=](Stream stream) {
    std::this_thread::sleep_for(delay);
    spin<<<1, 1, 0, static_cast<cudaStream_t>(stream.handle)>>>(350'000);
    CUDA_CHECK_LAUNCH();
  }};
}

class GpuTimer : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    facts_ = gpu::find(why);
    if (!facts_) GTEST_SKIP() << "no GPU: " << why;
    gpu::run(delayed(std::chrono::microseconds(0)));
  }
  std::optional<gpu::Facts> facts_;
};

TEST_F(GpuTimer, HostDelaysStayOutOfSamples) {
  using std::chrono::microseconds;
  gpu::time(delayed(microseconds(0)), false, 60);  // wakes the clocks
  const double prompt = summarise(gpu::time(delayed(microseconds(0)), false, 30).ns).median;
  const gpu::Samples late = gpu::time(delayed(microseconds(2000)), false, 30);
  const double median = summarise(late.ns).median;
  EXPECT_TRUE(late.gated);
  EXPECT_LT(std::abs(median / prompt - 1), 0.01) << prompt << " ns and " << median << " ns";
  EXPECT_GE(summarise(late.host_launch_ns).median, 2e6) << "the launch cost is a number of its own";
}

TEST_F(GpuTimer, EverySampleHasItsClock) {
  gpu::time(delayed(std::chrono::microseconds(0)), false, 60);  // wakes the clocks
  const gpu::Samples samples = gpu::time(delayed(std::chrono::microseconds(0)), false, 20);
  ASSERT_EQ(samples.mhz.size(), samples.ns.size());
  const Summary mhz = summarise(samples.mhz);
  EXPECT_GT(mhz.median, 300);
  EXPECT_LT(mhz.median, 4000);
  // The kernel spins for a number of cycles: its time tells the clock too, and starting it takes some.
  const double spun = 1e3 * 350'000 / summarise(samples.ns).median;
  EXPECT_LT(std::abs(spun / mhz.median - 1), 0.05) << spun << " and " << mhz.median << " MHz";
}

TEST_F(GpuTimer, AGraphReplaysTheLaunch) {
  const gpu::Graph graph = gpu::capture(delayed(std::chrono::microseconds(0)));
  EXPECT_EQ(graph.kernels, 1u);
  const double live =
      summarise(gpu::time(delayed(std::chrono::microseconds(0)), false, 30).ns).median;
  const double replay = summarise(gpu::time(graph.replay, false, 30).ns).median;
  EXPECT_LT(std::abs(replay / live - 1), 0.1) << replay << " and " << live;
}

TEST_F(GpuTimer, ALaunchThatCannotBeCapturedThrowsAndLeavesTheStream) {
  const Launch synchronises = {[](Stream stream) {
    CUDA_CHECK(cudaStreamSynchronize(static_cast<cudaStream_t>(stream.handle)));
  }};
  EXPECT_THROW(gpu::capture(synchronises), CudaError);
  gpu::run(delayed(std::chrono::microseconds(0)));
  EXPECT_EQ(gpu::capture(delayed(std::chrono::microseconds(0))).kernels, 1u);
}

TEST_F(GpuTimer, AProfiledRunRunsOnce) {
  int runs = 0;
  gpu::profile({[&](Stream) { ++runs; }}, "a range");
  EXPECT_EQ(runs, 1);
}

TEST_F(GpuTimer, ColdSamplesWriteTwiceTheL2EachTime) {
  const gpu::Samples cold = gpu::time(delayed(std::chrono::microseconds(0)), true, 7);
  EXPECT_EQ(cold.ns.size(), 7u);
  EXPECT_GE(cold.flush_bytes, 2 * facts_->info.l2_bytes);
  EXPECT_EQ(gpu::time(delayed(std::chrono::microseconds(0)), false, 7).flush_bytes, 0u);
}

TEST_F(GpuTimer, AHostThatBlocksTooLongIsReported) {
  EXPECT_FALSE(gpu::time(delayed(std::chrono::milliseconds(400)), false, 1).gated);
}

TEST_F(GpuTimer, AKernelTellsItsOccupancy) {
  const auto* function = reinterpret_cast<const void*>(&spin);
  const gpu::KernelResources told = gpu::describe({function, 0, 1024});
  EXPECT_GE(told.ctas_per_sm.value_or(0), 1);
  EXPECT_EQ(told.occupancy.value_or(0), 1) << "few registers: an SM is full of such CTAs";
  const std::size_t half = facts_->info.shared_bytes_per_block;  // more than half of an SM's
  CUDA_CHECK(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(half)));
  EXPECT_EQ(gpu::describe({function, half, 32}).ctas_per_sm, std::optional<int>(1));
  EXPECT_FALSE(gpu::describe({function, 0}).occupancy.has_value());
}

TEST_F(GpuTimer, AnEmptyKernelTakesLittleButNotNothing) {
  const Ceilings ceilings = gpu::measure_ceilings();
  EXPECT_GT(ceilings.null_kernel_ns, 100);
  EXPECT_LT(ceilings.null_kernel_ns, 50'000);
  EXPECT_GT(ceilings.copy_Bps, 1e10);
  EXPECT_GT(ceilings.ex2_per_s, 1e10);
}

}  // namespace
}  // namespace attn
