// Token rows in a ring of shared-memory stages, filled by bulk copies: teams of warps take the groups of
// tokens in turn, and a team that has read a stage starts the copies of the group that comes there next.
//
// Group i of a cluster goes to team i mod teams and to stage i mod stages. A stage has a `full` barrier
// for each team: a team must not wait at a barrier of which it skips phases, as a parity tells a phase
// from its neighbours only.
#pragma once

#include <cstdint>

#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/arch/sm90/tma.cuh"
#include "impls/attnres/bulk_config.h"
#include "impls/attnres/team.cuh"

namespace attn::attnres {

/// The groups of tokens of one cluster: group i has tokens [begin(i), begin(i) + count(i)).
struct TokenGroups {
  std::int64_t tokens;  // of the problem
  int first, step;      // clusters take groups in turn: neighbours lie in the same DRAM pages
  int size;

  __device__ static TokenGroups of(const BulkConfig& config,
                                   std::int64_t tokens,
                                   int cluster,
                                   int clusters) {
    return {tokens, cluster, clusters, config.tokens};
  }
  __device__ std::int64_t begin(int i) const {
    return (first + static_cast<std::int64_t>(i) * step) * size;
  }
  __device__ bool has(int i) const { return begin(i) < tokens; }
  /// Fewer than `size` in the last group.
  __device__ int count(int i) const {
    return static_cast<int>(min(static_cast<std::int64_t>(size), tokens - begin(i)));
  }
};

/// Initialises the ring's barriers and those of the teams' exchange; by one thread, before a barrier of
/// the CTA, or of the cluster where there is one.
__device__ inline void init_barriers(const BulkConfig& config, BulkBarriers& barriers) {
  for (int team = 0; team < config.teams; ++team) {
    for (int stage = 0; stage < config.stages; ++stage)
      sm90::mbarrier_init(sm90::shared_address(&barriers.full[team][stage]), 1);
    for (auto& barrier : barriers.exchange[team])
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

/// Starts the copies of group i, if there is one, which `team` will read in `stage`, `bytes` of each row:
/// one warp, a lane a row. Row r comes from row(token, r), where token is the group's first, and lies r rows
/// into its stage; a group of c tokens has the rows below c * token_rows. Addresses and `bytes` are
/// multiples of 16. Nobody reads the stage any more.
template <class Row>
__device__ inline void start_copies(const BulkConfig& config,
                                    BulkBarriers& barriers,
                                    std::uint32_t stages,
                                    const TokenGroups& groups,
                                    int i,
                                    int stage,
                                    int team,
                                    int token_rows,
                                    std::uint32_t bytes,
                                    int lane,
                                    Row&& row) {
  if (!groups.has(i)) return;
  const std::uint32_t full = sm90::shared_address(&barriers.full[team][stage]);
  const std::uint32_t to = stages + static_cast<std::uint32_t>(stage * config.stage_bytes());
  const int rows = groups.count(i) * token_rows;
  if (lane == 0) sm90::mbarrier_arrive_expect(full, static_cast<std::uint32_t>(rows) * bytes);
  __syncwarp();
  for (int r = lane; r < rows; r += 32)
    sm90::bulk_load(to + static_cast<std::uint32_t>(r * config.row_bytes()),
                    row(groups.begin(i), r), bytes, full);
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
  /// Goes on to the team's next group.
  __device__ void advance(const BulkConfig& config) {
    stage_ = (stage_ + config.teams) % config.stages;
    if (stage_ == start_) phase_ ^= 1;  // every stage that the team comes to has been visited once
  }

 private:
  int start_, stage_;
  std::uint32_t phase_ = 0;
};

}  // namespace attn::attnres
