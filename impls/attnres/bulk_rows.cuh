// Token rows in a ring of shared-memory stages: one thread starts bulk copies, teams of warps take the
// groups of tokens in turn.
//
// Group i of a cluster goes to team i mod teams and to stage i mod stages. A stage has one `empty`
// barrier, whose every phase the copying thread sees, and a `full` barrier for each team: a team must
// not wait at a barrier of which it skips phases, as a parity tells a phase from its neighbours only.
#pragma once

#include <cstdint>

#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/attnres/bulk_config.h"
#include "impls/attnres/team.cuh"

namespace attn::attnres {

/// The groups of tokens of one cluster: group i has tokens [begin(i), begin(i) + count(i)).
struct TokenGroups {
  std::int64_t tokens;       // of the problem
  std::int64_t first, step;  // clusters take groups in turn: neighbours lie in the same DRAM pages
  int size;

  __device__ static TokenGroups of(const BulkConfig& config,
                                   std::int64_t tokens,
                                   std::int64_t cluster,
                                   std::int64_t clusters) {
    return {tokens, cluster, clusters, config.tokens};
  }
  __device__ std::int64_t begin(std::int64_t i) const { return (first + i * step) * size; }
  __device__ bool has(std::int64_t i) const { return begin(i) < tokens; }
  /// Fewer than `size` in the last group.
  __device__ int count(std::int64_t i) const {
    return static_cast<int>(min(static_cast<std::int64_t>(size), tokens - begin(i)));
  }
};

/// Initialises the ring's barriers and those of the teams' exchange; by one thread, before a barrier of
/// the CTA, or of the cluster where there is one.
__device__ inline void init_barriers(const BulkConfig& config, BulkBarriers& barriers) {
  for (int stage = 0; stage < config.stages; ++stage) {
    for (int team = 0; team < config.teams; ++team)
      sm90::mbarrier_init(sm90::shared_address(&barriers.full[team][stage]), 1);
    sm90::mbarrier_init(sm90::shared_address(&barriers.empty[stage]),
                        static_cast<std::uint32_t>(config.team_warps));
  }
  for (int team = 0; team < config.teams; ++team)
    for (auto& barrier : barriers.exchange[team])
      sm90::mbarrier_init(sm90::shared_address(&barrier), 1);
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

/// Copies all groups of the cluster, `bytes` of each row: one thread, from beginning to end. Row r of a
/// group comes from row(token, r), where token is the group's first, and lies r rows into its stage; a
/// group of c tokens has the rows below c * token_rows. Addresses and `bytes` are multiples of 16.
template <class Row>
__device__ inline void copy_groups(const BulkConfig& config,
                                   BulkBarriers& barriers,
                                   std::uint32_t stages,
                                   const TokenGroups& groups,
                                   int token_rows,
                                   std::uint32_t bytes,
                                   Row&& row) {
  int stage = 0;
  int team = 0;
  std::uint32_t phase = 0;
  for (std::int64_t i = 0; groups.has(i); ++i) {
    // From the warps of the team that had the stage: they have read its rows. Free at first.
    sm90::mbarrier_wait(sm90::shared_address(&barriers.empty[stage]), phase ^ 1);
    const std::uint32_t full = sm90::shared_address(&barriers.full[team][stage]);
    const int rows = groups.count(i) * token_rows;
    const std::int64_t token = groups.begin(i);
    sm90::mbarrier_arrive_expect(full, static_cast<std::uint32_t>(rows) * bytes);
    std::uint32_t to = stages + static_cast<std::uint32_t>(stage * config.stage_bytes());
#pragma unroll 4
    for (int r = 0; r < rows; ++r, to += static_cast<std::uint32_t>(config.row_bytes()))
      sm90::bulk_load(to, row(token, r), bytes, full);
    if (++team == config.teams) team = 0;
    if (++stage == config.stages) stage = 0, phase ^= 1;
  }
}

/// Where a team stands in the ring.
class StageCursor {
 public:
  __device__ StageCursor(const BulkConfig& config, const Team& team)
      : start_(team.index % config.stages), stage_(start_) {}

  __device__ int stage() const { return stage_; }

  /// The group's rows have landed. A whole warp calls it.
  __device__ void wait(const Team& team, BulkBarriers& barriers) const {
    sm90::mbarrier_wait_warp(sm90::shared_address(&barriers.full[team.index][stage_]), phase_);
  }
  /// The warp has read what it wants of the stage; goes on to the team's next.
  __device__ void release(const BulkConfig& config, const Team& team, BulkBarriers& barriers) {
    __syncwarp();
    if (team.lane == 0) sm90::mbarrier_arrive(sm90::shared_address(&barriers.empty[stage_]));
    stage_ = (stage_ + config.teams) % config.stages;
    if (stage_ == start_) phase_ ^= 1;  // every stage that the team comes to has been visited once
  }

 private:
  int start_, stage_;
  std::uint32_t phase_ = 0;
};

}  // namespace attn::attnres
