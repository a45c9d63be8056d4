// The mix of a token by the CTAs of a cluster: wide rows stay in registers, and few tokens use many SMs.
//
// Adds:     columns of a token split over 2, 4 or 8 CTAs; sums are stored into all of them through
//           distributed shared memory, each store completing its bytes at a barrier there. No workspace.
// Mapping:  a cluster has a token, a thread eight columns of every row; mix_layout.h chooses. Clusters go
//           on to further tokens where not all are resident.
// Memory:   rows in registers; in every CTA two floats a row and warp of the cluster, twice.
// Limit:    memory: N + 1 rows a token, two more with an update, one more with a norm beside the output;
//           of one token the latency of a load and of one exchange, of two with a norm.
// Rounding: as fused_simt: fp32, one rounding of each output; the norm is that of the rounded row.
// Source:   reference/attnres/README.md; PTX ISA, "barrier.cluster", "st.async".
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "impls/arch/sm90/cluster.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/attnres/bulk_launch.cuh"
#include "impls/attnres_mix/held_kernel.cuh"

namespace attn::attnres_mix {
namespace {

using Problem = AttnResMix::Problem;
using Tensors = AttnResMix::Tensors;

/// The CTAs of a token are those of a cluster. Every put is a store that completes its bytes at a barrier of
/// the CTA that it goes to; no CTA ends before all that it expects has come.
class ClusterCtas {
 public:
  static constexpr int kWarps = attnres::kMaxWidth / (32 * kColumns);
  struct Shared {
    std::uint64_t barriers[kChannels];
  };

  __device__ explicit ClusterCtas(Shared& shared) : shared_(shared) {
    if (threadIdx.x == 0) {
      for (std::uint64_t& one : shared.barriers) sm90::mbarrier_init(sm90::shared_address(&one), 1);
      sm90::mbarrier_init_fence();
    }
    __syncwarp();
    sm90::cluster_arrive_relaxed();  // all threads of the cluster: this CTA's barriers can be used
  }
  __device__ int rank() const { return static_cast<int>(sm90::cluster_rank()); }
  __device__ int ranks() const { return static_cast<int>(sm90::cluster_ranks()); }
  __device__ void await_start() {
    if (!started_) sm90::cluster_wait();
    started_ = true;
  }
  /// Bytes that others complete first are counted below zero until this arrival, the phase's only one.
  __device__ void expect(Channel channel, int floats) const {
    if (threadIdx.x == 0)
      sm90::mbarrier_arrive_expect(barrier(channel), static_cast<std::uint32_t>(4 * floats));
  }
  __device__ void put(Channel channel, float* to, float value) const {
    const std::uint32_t own = sm90::shared_address(to);
    for (std::uint32_t other = 0, count = sm90::cluster_ranks(); other < count; ++other)
      sm90::store_async(sm90::map_shared(own, other), value,
                        sm90::map_shared(barrier(channel), other));
  }
  __device__ void await(Channel channel, int uses) const {
    sm90::mbarrier_wait_cluster(barrier(channel), static_cast<std::uint32_t>(uses % 2));
    __syncwarp();
  }

 private:
  __device__ std::uint32_t barrier(Channel channel) const {
    return sm90::shared_address(&shared_.barriers[static_cast<int>(channel)]);
  }

  Shared& shared_;
  bool started_ = false;
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
  const MixKernel kernel = held_kernel_for<ClusterCtas>(p.dtype, layout.sources);
  launch.kernels.push_back({reinterpret_cast<const void*>(kernel), 0, layout.threads});
  launch.enqueue = attnres::bulk_launch(kernel, mix_arguments(p, t),
                                        {layout.ranks, layout.threads, 0}, p.tokens())
                       .enqueue;
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
