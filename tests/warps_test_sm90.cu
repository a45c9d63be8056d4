// How warps, warpgroups and CTAs of a cluster work together on a GPU of compute capability 9.0:
// barriers and their phases, registers that move, stores of fragments, each other's shared memory.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "harness/core/cuda_check.h"
#include "impls/arch/sm90/atomic.cuh"
#include "impls/arch/sm90/barrier.cuh"
#include "impls/arch/sm90/cluster.cuh"
#include "impls/arch/sm90/global.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/registers.cuh"
#include "impls/arch/sm90/stmatrix.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "tests/device_vector.cuh"
#include "tests/sm90_device.cuh"

namespace attn::sm90 {
namespace {

class Warps : public Sm90Test {};

// One thread walks a barrier of two arrivals through three phases and notes what it answers.
__global__ void phases_kernel(const std::uint32_t* from,  // [4], 16-byte aligned
                              int* answers) {             // [11]
  __shared__ std::uint64_t barrier_storage;
  __shared__ __align__(16) std::uint32_t slot[4];
  const std::uint32_t barrier = shared_address(&barrier_storage);
  const auto done = [&](std::uint32_t parity) { *answers++ = mbarrier_try_wait(barrier, parity); };
  mbarrier_init(barrier, 2);
  mbarrier_init_fence();
  done(1);  // the phase before the first counts as complete
  done(0);
  mbarrier_arrive(barrier);
  done(0);
  mbarrier_arrive(barrier);
  *answers++ = wait_a_while(barrier, 0);
  done(1);  // the second phase has begun
  mbarrier_arrive(barrier);
  mbarrier_arrive_expect(barrier, 16);
  done(1);  // both have arrived, the bytes have not
  bulk_load(shared_address(slot), from, 16, barrier);
  *answers++ = wait_a_while(barrier, 1);
  *answers++ = static_cast<int>(slot[3]);
  done(0);  // parity 0 is the third phase now
  mbarrier_arrive(barrier);
  mbarrier_arrive(barrier);
  *answers++ = wait_a_while(barrier, 0);
  mbarrier_wait(barrier, 0);  // returns at once
  *answers++ = 1;
}

TEST_F(Warps, MbarrierPhasesCountArrivalsAndBytes) {
  const DeviceVector<std::uint32_t> from({1, 2, 3, 77});
  const DeviceVector<int> answers(std::vector<int>(11, -1));
  phases_kernel<<<1, 1>>>(from.get(), answers.get());
  CUDA_CHECK_LAUNCH();
  EXPECT_EQ(answers.host(), (std::vector<int>{1, 0, 0, 1, 0, 0, 1, 77, 0, 1, 1}));
}

// Warp 0 hands `rounds` values through one slot to warp 1, which adds them up.
__global__ void ring_kernel(int rounds, int* sum, int* arrived) {
  __shared__ std::uint64_t storage[2];
  __shared__ volatile int slot[32];
  const std::uint32_t full = shared_address(&storage[0]);
  const std::uint32_t empty = shared_address(&storage[1]);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    mbarrier_init(full, 32);   // every lane of the producer
    mbarrier_init(empty, 32);  // every lane of the consumer
    mbarrier_init_fence();
  }
  __syncthreads();
  int total = 0;
  for (int round = 0; round < rounds; ++round) {
    const std::uint32_t parity = static_cast<std::uint32_t>(round) & 1;
    if (threadIdx.x < 32) {
      // The slot is free at first: the phase before the first has parity 1 and is complete.
      if (!wait_a_while(empty, parity ^ 1)) return;
      slot[lane] = round * lane;
      mbarrier_arrive(full);
    } else {
      if (!wait_a_while(full, parity)) return;
      total += slot[31 - lane];  // written by another lane
      mbarrier_arrive(empty);
    }
  }
  if (threadIdx.x < 32) return;
  sum[lane] = total;
  if (lane == 0) *arrived = 1;
}

TEST_F(Warps, MbarriersHandASlotBackAndForth) {
  const DeviceVector<int> sum(std::vector<int>(32));
  const DeviceVector<int> arrived(std::vector<int>(1));
  ring_kernel<<<1, 64>>>(9, sum.get(), arrived.get());
  CUDA_CHECK_LAUNCH();
  ASSERT_EQ(arrived.host()[0], 1);
  const std::vector<int> got = sum.host();
  for (int lane = 0; lane < 32; ++lane)
    EXPECT_EQ(got[static_cast<std::size_t>(lane)], 36 * (31 - lane));
}

// Warp 0 writes late and only counts at barrier 1, warp 1 waits there; warps 2 and 3 do the same at
// barrier 2, where both wait. Nobody waits for all four.
__global__ void named_barriers_kernel(int* seen) {  // [64]
  __shared__ volatile int first[32];
  __shared__ volatile int second[32];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (warp == 0) {
    dawdle();
    first[lane] = 100 + lane;
    named_barrier_arrive(1, 64);
  } else if (warp == 1) {
    named_barrier_sync(1, 64);
    seen[lane] = first[31 - lane];
  } else if (warp == 2) {
    dawdle();
    second[lane] = 200 + lane;
    named_barrier_sync(2, 64);
  } else {
    named_barrier_sync(2, 64);
    seen[32 + lane] = second[31 - lane];
  }
}

TEST_F(Warps, NamedBarriersHoldTheirOwnWarps) {
  const DeviceVector<int> seen(std::vector<int>(64));
  named_barriers_kernel<<<1, 128>>>(seen.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<int> got = seen.host();
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(got[static_cast<std::size_t>(lane)], 131 - lane);
    EXPECT_EQ(got[static_cast<std::size_t>(32 + lane)], 231 - lane);
  }
}

// Four 8 x 8 matrices, row r of matrix i at the 16-byte piece 8 i + 7 - r.
__global__ void stmatrix_kernel(std::uint32_t* to) {  // [4, 8, 4]
  __shared__ __align__(16) std::uint32_t matrices[128];
  const int lane = static_cast<int>(threadIdx.x);
  std::uint32_t r[4];
  for (int i = 0; i < 4; ++i) r[i] = static_cast<std::uint32_t>(1000 * i + lane);
  stmatrix_x4(shared_address(matrices + 4 * (lane / 8 * 8 + 7 - lane % 8)), r);
  __syncwarp();
  for (int i = lane; i < 128; i += 32) to[i] = matrices[i];
}

TEST_F(Warps, StmatrixStoresPairsOfEachLanesRow) {
  const DeviceVector<std::uint32_t> to(std::vector<std::uint32_t>(128));
  stmatrix_kernel<<<1, 32>>>(to.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<std::uint32_t> got = to.host();
  for (std::uint32_t i = 0; i < 4; ++i)
    for (std::uint32_t row = 0; row < 8; ++row)
      for (std::uint32_t pair = 0; pair < 4; ++pair)  // lane / 4 is the row, lane mod 4 the pair
        EXPECT_EQ(got[4 * (8 * i + 7 - row) + pair], 1000 * i + 4 * row + pair);
}

constexpr int kLaunchRegisters = 128;  // two CTAs of 256 threads an SM: 65536 / 512
constexpr int kKept = 24;
constexpr int kTaken = 232;
static_assert(kKept + kTaken == 2 * kLaunchRegisters, "all that one gives the other takes");
constexpr int kLive = 160;  // values that a taker holds at a time: more than it was launched with

// Warpgroup 0 gives its registers away, warpgroup 1 takes them and holds kLive values a thread.
__global__ void __launch_bounds__(256, 2)
    registers_kernel(const std::uint32_t* from,  // [kLive, 128]
                     std::uint32_t* to,          // [kLive, 128]
                     std::uint32_t* given) {     // [128]
  const int thread = static_cast<int>(threadIdx.x) % 128;
  if (threadIdx.x < 128) {
    give_registers<kKept>();
    given[thread] = from[thread] + 1;
    return;
  }
  take_registers<kTaken>();
  std::uint32_t x[kLive];
  std::uint32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kLive; ++i) {
    x[i] = *static_cast<const volatile std::uint32_t*>(from + i * 128 + thread);  // loaded once
    sum += x[i] * static_cast<std::uint32_t>(2 * i + 1);
  }
#pragma unroll
  for (int i = 0; i < kLive; ++i) to[i * 128 + thread] = x[i] ^ sum;  // needs all of them
}

TEST_F(Warps, RegistersMoveBetweenWarpgroups) {
  cudaFuncAttributes attributes;
  CUDA_CHECK(cudaFuncGetAttributes(&attributes, registers_kernel));
  EXPECT_EQ(attributes.numRegs, kLaunchRegisters);
  EXPECT_EQ(attributes.localSizeBytes, 0u) << "the values spill: nothing was taken";
  std::vector<std::uint32_t> host(kLive * 128);
  for (std::size_t i = 0; i < host.size(); ++i)
    host[i] = static_cast<std::uint32_t>(i) * 2654435761u;
  const DeviceVector<std::uint32_t> from(host);
  const DeviceVector<std::uint32_t> to(std::vector<std::uint32_t>(host.size()));
  const DeviceVector<std::uint32_t> given(std::vector<std::uint32_t>(128));
  registers_kernel<<<1, 256>>>(from.get(), to.get(), given.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<std::uint32_t> got = to.host();
  for (std::size_t thread = 0; thread < 128; ++thread) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < kLive; ++i)
      sum += host[i * 128 + thread] * static_cast<std::uint32_t>(2 * i + 1);
    for (std::size_t i = 0; i < kLive; ++i)
      ASSERT_EQ(got[i * 128 + thread], host[i * 128 + thread] ^ sum) << thread << ", " << i;
    ASSERT_EQ(given.host()[thread], host[thread] + 1);
  }
}

// 128 threads draw numbers from a counter that starts at 150 and follows 200 by 0.
__global__ void draw_kernel(std::uint32_t* drawn) {  // [129]
  __shared__ std::uint32_t counter;
  if (threadIdx.x == 0) counter = 150;
  __syncthreads();
  drawn[threadIdx.x] = shared_count_relaxed(shared_address(&counter), 200);
  fence_cta();
  __syncthreads();
  if (threadIdx.x == 0) drawn[128] = counter;
}

/// What 128 threads drew, and the number that the counter holds then.
void expect_draws(std::vector<std::uint32_t> drawn) {
  EXPECT_EQ(drawn.back(), 77u);
  std::sort(drawn.begin(), drawn.end());  // 0 to 77, then 150 to 200
  for (std::uint32_t i = 0; i <= 128; ++i) EXPECT_EQ(drawn[i], i < 78 ? i : i + 72);
}

TEST_F(Warps, SharedCountGivesEachThreadANumberOfItsOwnAndWraps) {
  const DeviceVector<std::uint32_t> drawn(std::vector<std::uint32_t>(129));
  draw_kernel<<<1, 128>>>(drawn.get());
  CUDA_CHECK_LAUNCH();
  expect_draws(drawn.host());
}

// The same of threads of several CTAs, from a counter in global memory: the last number.
__global__ void draw_globally_kernel(std::uint32_t* drawn) {  // [129]
  drawn[blockIdx.x * blockDim.x + threadIdx.x] = global_count_relaxed(drawn + 128, 200);
}

TEST_F(Warps, GlobalCountGivesThreadsOfAllCtasANumberOfTheirOwnAndWraps) {
  std::vector<std::uint32_t> start(129);
  start.back() = 150;
  const DeviceVector<std::uint32_t> drawn(start);
  draw_globally_kernel<<<16, 8>>>(drawn.get());
  CUDA_CHECK_LAUNCH();
  expect_draws(drawn.host());
}

// CTA 0 writes `data` late and then a flag; CTA 1 polls the flag for a while and reads `data`.
__global__ void flags_kernel(std::uint64_t* flag, std::uint64_t* data, std::uint64_t* seen) {
  if (blockIdx.x == 0) {
    dawdle();
    *data = 42;
    __threadfence();
    store_relaxed(flag, std::uint64_t{3} << 33 | 5);
    return;
  }
  const std::int64_t start = clock64();
  while ((seen[0] = load_relaxed(flag)) == 0 && clock64() - start < (std::int64_t{1} << 31)) {
  }
  __threadfence();
  seen[1] = *data;
}

TEST_F(Warps, AWordIsSeenByAnotherCtaThatPollsForIt) {
  const DeviceVector<std::uint64_t> flag(std::vector<std::uint64_t>(1));
  const DeviceVector<std::uint64_t> data(std::vector<std::uint64_t>(1));
  const DeviceVector<std::uint64_t> seen(std::vector<std::uint64_t>(2));
  flags_kernel<<<2, 1>>>(flag.get(), data.get(), seen.get());
  CUDA_CHECK_LAUNCH();
  EXPECT_EQ(seen.host(), (std::vector<std::uint64_t>{std::uint64_t{3} << 33 | 5, 42}));
}

constexpr unsigned kAddingCtas = 100;
__global__ void add_kernel(std::uint64_t* totals) {  // [32], zeros
  add_relaxed(totals + threadIdx.x, (std::uint64_t{1} << 40) + blockIdx.x * threadIdx.x);
}

TEST_F(Warps, SumsInGlobalMemoryAreThoseOfAllCtas) {
  const DeviceVector<std::uint64_t> totals(std::vector<std::uint64_t>(32));
  add_kernel<<<kAddingCtas, 32>>>(totals.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<std::uint64_t> got = totals.host();
  for (std::uint64_t i = 0; i < 32; ++i)
    EXPECT_EQ(got[i], (std::uint64_t{kAddingCtas} << 40) + i * kAddingCtas * (kAddingCtas - 1) / 2);
}

// CTA 1 stores pairs of numbers late; CTA 0 polls each pair until both are there.
constexpr int kPairs = 64;
__global__ void pairs_kernel(std::uint64_t* pairs, std::uint64_t* seen) {  // [2 * kPairs] each
  const unsigned i = threadIdx.x;
  if (blockIdx.x == 1) {
    dawdle();
    const std::uint64_t values[2] = {i + 1, std::uint64_t{i + 1} << 40};
    store_relaxed(pairs + 2 * i, values);
    return;
  }
  std::uint64_t values[2] = {0, 0};
  const std::int64_t start = clock64();
  do {
    load_relaxed(pairs + 2 * i, values);
  } while ((values[0] == 0 || values[1] == 0) && clock64() - start < (std::int64_t{1} << 31));
  seen[2 * i] = values[0];
  seen[2 * i + 1] = values[1];
}

TEST_F(Warps, PairsInGlobalMemoryArriveAtOtherCtas) {
  const DeviceVector<std::uint64_t> pairs(std::vector<std::uint64_t>(2 * kPairs));
  const DeviceVector<std::uint64_t> seen(std::vector<std::uint64_t>(2 * kPairs));
  pairs_kernel<<<2, kPairs>>>(pairs.get(), seen.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<std::uint64_t> got = seen.host();
  for (std::uint64_t i = 0; i < kPairs; ++i) {
    EXPECT_EQ(got[2 * i], i + 1);
    EXPECT_EQ(got[2 * i + 1], (i + 1) << 40);
  }
}

// Each of two CTAs stores into the other's shared memory; what arrives goes to `received`.
__global__ void __cluster_dims__(2, 1, 1) exchange_kernel(std::uint32_t* ranks,     // [CTAs]
                                                          std::uint64_t* received,  // [CTAs, 64]
                                                          int* arrived) {           // [CTAs]
  __shared__ std::uint64_t barrier_storage;
  __shared__ std::uint64_t slots[64];
  const std::uint32_t rank = cluster_rank();
  const std::uint32_t barrier = shared_address(&barrier_storage);
  const std::uint32_t thread = threadIdx.x;
  if (thread == 0) {
    ranks[blockIdx.x] = rank;
    mbarrier_init(barrier, 1);
    mbarrier_init_fence();
    mbarrier_arrive_expect(barrier, sizeof slots);
  }
  __syncthreads();   // the instruction wants the lanes of a warp together
  cluster_arrive();  // all threads of both CTAs: their barriers are initialised
  cluster_wait();
  const std::uint64_t value = std::uint64_t{blockIdx.x} << 32 | thread;
  store_async(map_shared(shared_address(&slots[63 - thread]), rank ^ 1), value,
              map_shared(barrier, rank ^ 1));
  if (wait_a_while(barrier, 0)) {
    received[blockIdx.x * 64 + thread] = slots[thread];
    if (thread == 0) arrived[blockIdx.x] = 1;
  }
  __syncthreads();
  cluster_arrive();  // no CTA ends while the other may still store into it
  cluster_wait();
}

TEST_F(Warps, CtasOfAClusterStoreIntoEachOther) {
  const DeviceVector<std::uint32_t> ranks(std::vector<std::uint32_t>(4, 9));
  const DeviceVector<std::uint64_t> received(std::vector<std::uint64_t>(4 * 64));
  const DeviceVector<int> arrived(std::vector<int>(4));
  exchange_kernel<<<4, 64>>>(ranks.get(), received.get(), arrived.get());
  CUDA_CHECK_LAUNCH();
  EXPECT_EQ(ranks.host(), (std::vector<std::uint32_t>{0, 1, 0, 1}));
  EXPECT_EQ(arrived.host(), (std::vector<int>{1, 1, 1, 1}));
  const std::vector<std::uint64_t> got = received.host();
  for (std::uint64_t cta = 0; cta < 4; ++cta)
    for (std::uint64_t i = 0; i < 64; ++i)
      EXPECT_EQ(got[cta * 64 + i], (cta ^ 1) << 32 | (63 - i)) << "CTA " << cta;
}

// The CTA of rank 0 writes late; the other reads behind the barrier of the cluster.
__global__ void __cluster_dims__(2, 1, 1) cluster_barrier_kernel(volatile int* message,  // [32]
                                                                 int* seen) {            // [32]
  if (cluster_rank() == 0) {
    dawdle();
    message[threadIdx.x] = 5 + static_cast<int>(threadIdx.x);
  }
  cluster_arrive();
  cluster_wait();
  if (cluster_rank() == 1) seen[threadIdx.x] = message[31 - threadIdx.x];
}

TEST_F(Warps, TheBarrierOfAClusterHoldsBothCtas) {
  const DeviceVector<int> message(std::vector<int>(32));
  const DeviceVector<int> seen(std::vector<int>(32));
  cluster_barrier_kernel<<<2, 32>>>(message.get(), seen.get());
  CUDA_CHECK_LAUNCH();
  const std::vector<int> got = seen.host();
  for (int i = 0; i < 32; ++i) EXPECT_EQ(got[static_cast<std::size_t>(i)], 36 - i);
}

}  // namespace
}  // namespace attn::sm90
