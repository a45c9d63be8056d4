// Token rows in a ring of shared-memory stages, filled by bulk copies: teams of warps take the groups of
// tokens in turn, and a team that has read a stage starts the copies of the group that comes there next.
//
// A cluster's turn i belongs to team i mod teams and stage i mod stages. What group it is, the stage says. A
// stage has a `full` barrier for each team: a team must not wait at a barrier of which it skips phases, as a
// parity tells a phase from its neighbours only.
//
// Groups are handed out in one of two ways. Clusters take them in turn, or, after the first of every stage, draw
// numbers from a counter in global memory: SMs do not get equal shares of the memory's bandwidth, and those
// that get more take more. A turn without a group ends its team, which first passes it on to the stage's next
// reader: that team has got every turn before from this one, and what is drawn later has no group either.
#pragma once

#include <cstdint>

#include "impls/arch/sm90/atomic.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/attnres/bulk_config.h"
#include "impls/attnres/team.cuh"

namespace attn::attnres {

/// The groups of tokens, and those that one cluster takes. Group g has tokens [begin(g), begin(g) + count(g)).
struct TokenGroups {
  std::int64_t tokens;   // of the problem
  int size;              // tokens of a group
  int first, step;       // clusters take groups in turn: neighbours lie in the same DRAM pages
  std::uint32_t* drawn;  // how many groups were drawn, by all clusters; null where none are

  __device__ bool has(int group) const { return begin(group) < tokens; }
  __device__ std::int64_t begin(int group) const { return static_cast<std::int64_t>(group) * size; }
  /// Fewer than `size` in the last group.
  __device__ int count(int group) const {
    return static_cast<int>(min(static_cast<std::int64_t>(size), tokens - begin(group)));
  }
  /// The group of the cluster's turn i, where none are drawn, and of the first turn of every stage.
  __device__ int in_turn(int i) const { return first + i * step; }
  /// A number that nobody else has drawn, by one thread; 0 where none are. It takes a trip to L2.
  __device__ int draw() const {
    return drawn == nullptr ? 0 : static_cast<int>(sm90::global_count_relaxed(drawn, ~0u));
  }
  /// The group of turn i behind the first of all `stages`, for which `number` was drawn.
  __device__ int of_turn(int i, int stages, int number) const {
    return drawn == nullptr ? in_turn(i) : stages * step + number;
  }
};

/// Initialises the ring's barriers and those of the teams' exchange; by one thread, before a barrier of
/// the CTA, or of the cluster where there is one.
__device__ inline void init_barriers(const BulkConfig& config, BulkRing& ring) {
  for (int team = 0; team < config.teams; ++team) {
    for (int stage = 0; stage < config.stages; ++stage)
      sm90::mbarrier_init(sm90::shared_address(&ring.full[team][stage]), 1);
    for (auto& barrier : ring.exchange[team])
      sm90::mbarrier_init(sm90::shared_address(&barrier), 1);
  }
  sm90::mbarrier_init_fence();
}

/// Zeros behind the columns of a rank in `rows` rows from `first` on: copies never touch them, and the
/// products read whole steps. By threads [thread, threads).
__device__ inline void clear_padding(
    const BulkConfig& config, char* first, int rows, int columns, int thread, int threads) {
  const int vectors = config.padded / 8 - columns;
  for (int i = thread; i < rows * vectors; i += threads) {
    char* row = first + i / vectors * config.row_bytes();
    reinterpret_cast<uint4*>(row)[columns + i % vectors] = make_uint4(0, 0, 0, 0);
  }
}

/// Starts the copies of a group, if there is one of this number, which `team` will read in `stage`, `bytes` of
/// each row: one warp, a lane a row. Row r comes from row(token, r), where token is the group's first, and lies r
/// rows into its stage; a group of c tokens has the rows below c * token_rows. Addresses and `bytes` are
/// multiples of 16. Nobody reads the stage any more.
template <class Row>
__device__ inline void start_copies(const BulkConfig& config,
                                    BulkRing& ring,
                                    std::uint32_t stages,
                                    const TokenGroups& groups,
                                    int group,
                                    int stage,
                                    int team,
                                    int token_rows,
                                    std::uint32_t bytes,
                                    int lane,
                                    Row&& row) {
  const std::uint32_t full = sm90::shared_address(&ring.full[team][stage]);
  const std::uint32_t to = stages + static_cast<std::uint32_t>(stage * config.stage_bytes());
  const int rows = groups.has(group) ? groups.count(group) * token_rows : 0;
  if (lane == 0) {
    ring.group[stage] = group;
    sm90::mbarrier_arrive_expect(full, static_cast<std::uint32_t>(rows) * bytes);
  }
  __syncwarp();
  for (int r = lane; r < rows; r += 32)
    sm90::bulk_load(to + static_cast<std::uint32_t>(r * config.row_bytes()),
                    row(groups.begin(group), r), bytes, full);
}

/// Tells `team`, the next reader of `stage`, of a group that does not exist; by one thread.
__device__ inline void pass_on(BulkRing& ring, int group, int stage, int team) {
  ring.group[stage] = group;
  sm90::mbarrier_arrive(sm90::shared_address(&ring.full[team][stage]));
}

/// Where a team stands in the ring.
class StageCursor {
 public:
  __device__ StageCursor(const BulkConfig& config, const Team& team)
      : start_(team.index % config.stages), stage_(start_) {}

  __device__ int stage() const { return stage_; }

  /// The turn's group; its rows have landed. A whole warp calls it.
  __device__ int wait(const Team& team, BulkRing& ring) const {
    sm90::mbarrier_wait_warp(sm90::shared_address(&ring.full[team.index][stage_]), phase_);
    return ring.group[stage_];
  }
  /// Goes on to the team's next turn.
  __device__ void advance(const BulkConfig& config) {
    stage_ = (stage_ + config.teams) % config.stages;
    if (stage_ == start_) phase_ ^= 1;  // every stage that the team comes to has been visited once
  }

 private:
  int start_, stage_;
  std::uint32_t phase_ = 0;
};

}  // namespace attn::attnres
