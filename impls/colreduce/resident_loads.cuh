// The loading warp of the row-resident kernel: queries and keys through the copy engine, in the
// order in which the score groups need them.
#pragma once

#include <cstdint>

#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/colreduce/resident_policy.cuh"

namespace attn::colreduce {

/// One thread runs it. Tiles of queries go through a ring of buffers, a crew of score groups after the other. Resident
/// keys are replaced chunk by chunk as the last score groups of a head are done with them; streamed keys go through
/// a ring for each group of the crew.
template <class Policy>
class Loader {
 public:
  __device__ Loader(const ResidentArguments& args,
                    typename Policy::Shared& shared,
                    const Team& team)
      : args_(args), shared_(shared), team_(team), cursor_(team), place_(place_of(0)) {}

  /// Loads until a slot is needed that somebody must give back first.
  __device__ __forceinline__ void begin() {
    if (team_.first_tile == team_.row_tiles) return;
    load_queries();
    while (chunk_ < team_.used_chunks && chunk_ < Policy::kKeySlots) load_keys();
  }

  __device__ __forceinline__ void run() {
    if (team_.first_tile == team_.row_tiles) return;
    while (true) {
      // In turn with the first tiles: both wait for score groups that are not done with the head before.
      if (chunk_ < team_.used_chunks) load_keys();
      if (cursor_.last(team_))
        while (chunk_ < team_.used_chunks) load_keys();
      cursor_.advance(team_);
      if (cursor_.ended(team_)) return;
      if (cursor_.first(team_)) place_ = place_of(cursor_.round);
      // The first tile of a head goes before its keys, whose slots become free later.
      load_queries();
      if (cursor_.first(team_)) chunk_ = 0;
      if (!Policy::kStreamKeys && cursor_.tile == team_.first_tile + 1) prefetch_keys();
    }
  }

 private:
  /// Where a head's queries and keys lie in their tensor maps. Divisions: once a head, not once a load.
  struct Place {
    int q_head;
    int q_batch;
    int k_head;
    int k_batch;
  };

  __device__ __forceinline__ Place place_of(int round) const {
    const int head = heads_of(args_, team_).head_of(round);
    const int batch = head / args_.H;
    const int h = head % args_.H;
    return {h * args_.q.head_step, batch * args_.q.batch_step,
            h / args_.sharing * args_.k.head_step, batch * args_.k.batch_step};
  }

  __device__ __forceinline__ void load_queries() {
    const std::uint32_t full = sm90::shared_address(&shared_.query_full[crews_.slot]);
    // From the warps of a crew: the tile that was here is in their registers.
    sm90::mbarrier_wait(sm90::shared_address(&shared_.query_free[queries_.slot]),
                        queries_.parity() ^ 1);
    sm90::mbarrier_arrive_expect(full, Policy::kTileBytes);
#pragma unroll
    for (int box = 0; box < Policy::kBoxes; ++box)
      sm90::tma_load_4d(
          sm90::shared_address(shared_.queries[queries_.slot]) + box * Policy::kBoxBytes,
          &args_.q.map, full, 64 * box, cursor_.tile * kTileRows, place_.q_head, place_.q_batch);
    queries_.template advance<Policy::kQuerySlots>();
    crews_.template advance<Policy::kCrews>();
  }

  /// The keys of the team's next head into L2: its tiles begin by waiting for them.
  __device__ __forceinline__ void prefetch_keys() {
    if (cursor_.round + 1 == team_.rounds) return;
    const Place place = place_of(cursor_.round + 1);
    for (int chunk = 0; chunk < team_.used_chunks; ++chunk)
      for (int box = 0; box < Policy::kBoxes; ++box)
        sm90::tma_prefetch_4d(&args_.k.map, 64 * box, team_.tiles.first_key(chunk), place.k_head,
                              place.k_batch);
  }

  /// The next chunk of the cursor's head.
  __device__ __forceinline__ void load_keys() {
    int slot = chunk_;
    std::uint32_t phase = cursor_.round & 1;
    if constexpr (Policy::kStreamKeys) {  // even chunks in one ring, odd ones in the other
      const int own = (team_.used_chunks + Policy::kCrewGroups - 1 - chunk_ % Policy::kCrewGroups) /
                      Policy::kCrewGroups;  // of a head
      const int position = cursor_.round * own + chunk_ / Policy::kCrewGroups;
      slot =
          chunk_ % Policy::kCrewGroups * Policy::kGroupKeySlots + position % Policy::kGroupKeySlots;
      phase = position / Policy::kGroupKeySlots & 1;
    }
    const std::uint32_t full = sm90::shared_address(&shared_.key_full[slot]);
    // From the warps that read the chunk that was here: their products are complete.
    sm90::mbarrier_wait(sm90::shared_address(&shared_.key_free[slot]), phase ^ 1);
    sm90::mbarrier_arrive_expect(full, Policy::kTileBytes);
#pragma unroll
    for (int box = 0; box < Policy::kBoxes; ++box)
      sm90::tma_load_4d(sm90::shared_address(shared_.keys[slot]) + box * Policy::kBoxBytes,
                        &args_.k.map, full, 64 * box, team_.tiles.first_key(chunk_), place_.k_head,
                        place_.k_batch);
    ++chunk_;
  }

  const ResidentArguments& args_;
  typename Policy::Shared& shared_;
  const Team& team_;
  TileCursor cursor_;
  Place place_;         // of the cursor's head
  RingCursor queries_;  // where the next tile of queries goes
  RingCursor crews_;    // the crew that it is for
  int chunk_ = 0;       // of the cursor's head, the next one to load
};

}  // namespace attn::colreduce
