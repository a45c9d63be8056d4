// The CTAs of a cluster tell each other their sums: every rank gets all ranks' and adds them in the same
// order, so that all have the same bits.
//
// A team has two sets of slots, used in turn, [ranks, count] each. Why a slot may be written: a rank
// sends its sums of exchange j + 2 only after it has received those of j + 1 from everybody; a rank sends
// those of j + 1 after a barrier of its team, to which each warp comes when it has read the slots of j.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "impls/arch/sm90/cluster.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/attnres/bulk_config.h"
#include "impls/attnres/team.cuh"

namespace attn::attnres {

class RankExchange {
 public:
  /// `slots` lies at the same address in every CTA, aligned to 8 bytes. Exchanges before this one:
  /// `number`.
  __device__ RankExchange(
      float* slots, std::uint64_t (&barriers)[2], int ranks, int count, int number)
      : slots_(slots),
        barriers_(barriers),
        ranks_(ranks),
        count_(count),
        set_(number % 2),
        phase_(static_cast<std::uint32_t>(number / 2 % 2)) {}

  /// Sends sum(i) of this rank, i in [0, count), to all ranks, itself too. All threads of a team call it,
  /// behind a barrier of the team.
  template <class Sum>
  __device__ void send(const Team& team, Sum&& sum) const {
    const std::uint32_t barrier = sm90::shared_address(&barriers_[set_]);
    const std::uint32_t rank = sm90::cluster_rank();
    const std::uint32_t slots = sm90::shared_address(own_slots() + static_cast<int>(rank) * count_);
    // Bytes that others complete first are counted below zero until this arrival.
    if (team.thread == 0)
      sm90::mbarrier_arrive_expect(barrier, static_cast<std::uint32_t>(4 * ranks_ * count_));
    for (int pair = team.thread; pair < count_ / 2; pair += team.threads()) {
      const std::uint64_t value =
          std::uint64_t{__float_as_uint(sum(2 * pair + 1))} << 32 | __float_as_uint(sum(2 * pair));
      for (int to = 0; to < ranks_; ++to)
        sm90::store_async(sm90::map_shared(slots + static_cast<std::uint32_t>(8 * pair),
                                           static_cast<std::uint32_t>(to)),
                          value, sm90::map_shared(barrier, static_cast<std::uint32_t>(to)));
    }
  }
  /// All ranks' sums of this exchange are here. Whole warps call it; each thread that reads waits.
  __device__ void wait() const {
    sm90::mbarrier_wait_cluster(sm90::shared_address(&barriers_[set_]), phase_);
    __syncwarp();
  }
  /// Sum i over all ranks, in their order.
  __device__ float total(int i) const {
    const float* slot = own_slots() + i;
    float sum = slot[0];
    for (int rank = 1; rank < ranks_; ++rank) sum += slot[rank * count_];
    return sum;
  }

 private:
  __device__ float* own_slots() const { return slots_ + set_ * ranks_ * count_; }

  float* slots_;
  std::uint64_t (&barriers_)[2];
  int ranks_, count_;
  int set_;
  std::uint32_t phase_;
};

}  // namespace attn::attnres
