// The mix of a token by the CTAs of a cluster: wide rows stay in registers, and few tokens use many SMs.
//
// Adds:     columns of a token split over 2, 4 or 8 CTAs. Each adds up what its warps have found and stores
//           the sums into all of them through distributed shared memory, each store completing its bytes at
//           a barrier there. No workspace.
// Mapping:  a cluster has a token, a thread eight columns of every row; mix_layout.h chooses. Clusters go
//           on to further tokens where not all are resident; where all are, the kernel has no loop.
// Memory:   rows in registers; in every CTA two floats a row and warp, and two a row and CTA of the cluster,
//           twice.
// Limit:    memory: N + 1 rows a token, two more with an update, one more with a norm beside the output;
//           of one token the latency of a load and of one exchange, of two with a norm.
// Rounding: as fused_simt: fp32, one rounding of each output; the norm is that of the rounded row.
// Source:   reference/attnres/README.md; PTX ISA, "barrier.cluster", "st.async".
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "impls/arch/sm90/cluster.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/attnres/bulk_launch.cuh"
#include "impls/attnres_mix/held_kernel.cuh"

namespace attn::attnres_mix {
namespace {

using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;

/// The CTAs of a token are those of a cluster; no CTA ends before all that it expects has come.
class ClusterCtas {
 public:
  /// Also the sums of every CTA, and the barrier at which their bytes complete. Why they may be written again:
  /// between two uses there is always one of other sums. Who sends the second has awaited that one, which
  /// this CTA has sent behind a barrier of its warps, and each came there when it had read the first.
  template <int kCount>
  struct Sums {
    alignas(8) float of_warp[kHeldWarps][kCount];
    alignas(8) float of_cta[attnres::kMostRanks][kCount];
    std::uint64_t barrier;
  };

  __device__ int rank() const { return static_cast<int>(rank_); }
  __device__ int ranks() const { return static_cast<int>(sm90::cluster_ranks()); }
  __device__ std::int64_t first_token() const { return sm90::cluster_index(); }
  __device__ std::int64_t step() const { return sm90::clusters(); }
  template <class... AllSums>
  __device__ void start(AllSums&... sums) const {
    if (threadIdx.x == 0) {
      (sm90::mbarrier_init(sm90::shared_address(&sums.barrier), 1), ...);
      sm90::mbarrier_init_fence();
    }
    __syncwarp();
    sm90::cluster_arrive_relaxed();  // all threads of the cluster: this CTA's barriers can be used
  }
  __device__ void await_start() const { sm90::cluster_wait(); }
  /// Bytes that others complete first are counted below zero until this arrival, the phase's only one.
  template <int kCount>
  __device__ void expect(Sums<kCount>& sums) const {
    if (threadIdx.x == 0)
      sm90::mbarrier_arrive_expect(sm90::shared_address(&sums.barrier),
                                   static_cast<std::uint32_t>(4 * kCount * ranks()));
  }
  template <int kCount>
  __device__ float total(const Sums<kCount>& sums, const HeldPlace& place, int uses) const {
    __syncthreads();  // all warps: their values are there
    send(sums, place);
    sm90::mbarrier_wait_cluster(sm90::shared_address(&sums.barrier),
                                static_cast<std::uint32_t>(uses % 2));
    __syncwarp();
    const int i = std::min(place.lane, kCount - 1);
    float of_cta[attnres::kMostRanks];
#pragma unroll
    for (int rank = 0; rank < attnres::kMostRanks; ++rank)
      of_cta[rank] = rank < ranks() ? sums.of_cta[rank][i] : 0.0f;
#pragma unroll
    for (int half = attnres::kMostRanks / 2; half > 0; half /= 2) {
#pragma unroll
      for (int rank = 0; rank < half; ++rank) of_cta[rank] += of_cta[rank + half];
    }
    return of_cta[0];
  }

 private:
  /// Stores the sums over this CTA's warps into every CTA: half a warp serves one at a time, a lane has two
  /// sums where they are pairs.
  template <int kCount>
  __device__ void send(const Sums<kCount>& sums, const HeldPlace& place) const {
    constexpr int kWidth = kCount % 2 == 0 ? 2 : 1;
    constexpr int kStores = kCount / kWidth;
    static_assert(kStores <= 16, "half a warp stores all sums");
    using Value = std::conditional_t<kWidth == 2, float2, float>;
    const int store = place.lane % 16;
    if (store >= kStores) return;
#pragma unroll 1
    for (int to = 2 * place.warp + place.lane / 16; to < ranks(); to += 2 * place.warps) {
      const auto rank = static_cast<std::uint32_t>(to);
      const std::uint32_t there =
          sm90::map_shared(sm90::shared_address(&sums.of_cta[rank_][store * kWidth]), rank);
      const std::uint32_t barrier = sm90::map_shared(sm90::shared_address(&sums.barrier), rank);
      const Value* values = reinterpret_cast<const Value*>(sums.of_warp[0]) + store;
      Value sum{};
#pragma unroll 1
      for (int four = 0; four < place.warps; four += 4, values += 4 * kStores) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
          add(sum, four + i < place.warps ? values[i * kStores] : Value{});
      }
      sm90::store_async(there, sum, barrier);
    }
  }
  __device__ static void add(float& sum, float value) { sum += value; }
  __device__ static void add(float2& sum, const float2& value) {
    sum.x += value.x;
    sum.y += value.y;
  }

  std::uint32_t rank_ = sm90::cluster_rank();
};

Support supports(const Problem& p, const DeviceInfo& device) {
  if (device.sm != 90) return Support::no("needs sm_90");
  if (p.D % 8 != 0) return Support::no("D must be a multiple of 8");
  if (p.source_stride() % 8 != 0) return Support::no("token_stride must be a multiple of 8");
  if (attnres::held_sources(p.N, p.dtype) == 0)
    return Support::no("N must be at most 16, in f32 at most 9");
  if (attnres::choose_cluster(attnres::held_needs(p), device.sm_count).sources == 0)
    return Support::no("D must be more than 256: one warp has the row");
  return Support::yes();
}

Launch plan(const Problem& p, const Tensors& t, Workspace, const DeviceInfo& device) {
  const attnres::HeldLayout layout =
      attnres::choose_cluster(attnres::held_needs(p), device.sm_count);
  Launch launch;
  launch.note = std::to_string(layout.ranks) + " CTAs of " + std::to_string(layout.threads) +
                " threads a token";
  launch.enqueue = [](Stream) {};
  if (p.tokens() == 0) return launch;
  if (!has_vectors(p, t))
    throw std::invalid_argument("cluster_sm90: every row must start on 16 bytes");
  const HeldArguments arguments = held_arguments(p, t);
  const attnres::ClusterShape shape{layout.ranks, layout.threads, 0};
  HeldKernel kernel = held_kernel_for<ClusterCtas, true>(p.dtype, layout.sources);
  attnres::ClusterLaunch clusters = attnres::bulk_launch(kernel, arguments, shape, p.tokens());
  if (clusters.clusters < p.tokens()) {
    kernel = held_kernel_for<ClusterCtas, false>(p.dtype, layout.sources);
    clusters = attnres::bulk_launch(kernel, arguments, shape, p.tokens());
  }
  launch.kernels.push_back({reinterpret_cast<const void*>(kernel), 0, layout.threads});
  launch.enqueue = clusters.enqueue;
  return launch;
}

}  // namespace

extern const Backend<AttnResMix> cluster_sm90;
constinit const Backend<AttnResMix> cluster_sm90 = {
    .info = {.id = "cluster_sm90",
             .summary = "a token's columns over a cluster, sums through distributed shared memory",
             .memory = MemorySpace::kDevice,
             .math = "fp32 FMA, exp of the CUDA library",
             .numerics = NumericsClass::kFp32},
    .supports = supports,
    .plan = plan};

}  // namespace attn::attnres_mix
