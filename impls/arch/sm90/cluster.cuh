// Clusters of CTAs: rank, barrier, and each other's shared memory (DSMEM).
// Source: PTX ISA, "barrier.cluster", "mapa", "st.async", "Special Registers" (sm_90).
#pragma once

#include <cstdint>

namespace attn::sm90 {

/// This CTA's number in its cluster. PTX ISA, "%cluster_ctarank".
__device__ inline std::uint32_t cluster_rank() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

/// The number of CTAs in the cluster. PTX ISA, "%cluster_nctarank".
__device__ inline std::uint32_t cluster_ranks() {
  std::uint32_t ranks;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(ranks));
  return ranks;
}

/// The number of this cluster in a grid of one axis. PTX ISA, "%clusterid".
__device__ inline std::uint32_t cluster_index() {
  std::uint32_t index;
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(index));
  return index;
}

/// The number of clusters in a grid of one axis. PTX ISA, "%nclusterid".
__device__ inline std::uint32_t clusters() {
  std::uint32_t count;
  asm volatile("mov.u32 %0, %%nclusterid.x;" : "=r"(count));
  return count;
}

/// Counts at the barrier of the cluster; earlier writes become visible to those who wait.
/// PTX ISA, "barrier.cluster.arrive".
__device__ inline void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

/// The same without making anything visible: for barriers in shared memory, mbarrier_init_fence comes
/// before it. PTX ISA, "barrier.cluster.arrive".
__device__ inline void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

/// Waits until all threads of the cluster have arrived. PTX ISA, "barrier.cluster.wait".
__device__ inline void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// The cluster-wide address of what lies at `shared` in the CTA of this rank. PTX ISA, "mapa".
__device__ inline std::uint32_t map_shared(std::uint32_t shared, std::uint32_t rank) {
  std::uint32_t mapped;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(mapped) : "r"(shared), "r"(rank));
  return mapped;
}

/// Writes 8 bytes into another CTA's shared memory and completes them at a barrier of that CTA;
/// both addresses come from map_shared. PTX ISA, "st.async".
__device__ inline void store_async(std::uint32_t mapped,
                                   std::uint64_t value,
                                   std::uint32_t mapped_barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::"r"(mapped),
      "l"(value), "r"(mapped_barrier)
      : "memory");
}

/// The same with two floats.
__device__ inline void store_async(std::uint32_t mapped,
                                   float2 value,
                                   std::uint32_t mapped_barrier) {
  store_async(mapped, std::uint64_t{__float_as_uint(value.y)} << 32 | __float_as_uint(value.x),
              mapped_barrier);
}

/// The same with a float.
__device__ inline void store_async(std::uint32_t mapped,
                                   float value,
                                   std::uint32_t mapped_barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(mapped),
      "r"(__float_as_uint(value)), "r"(mapped_barrier)
      : "memory");
}

}  // namespace attn::sm90
