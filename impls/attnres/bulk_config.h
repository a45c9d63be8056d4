// How a Hopper kernel of the family lays groups of tokens out: columns over the CTAs of a cluster, rows
// in a ring of stages. Chosen on the host, by arithmetic alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "harness/core/backend.h"
#include "impls/attnres/ranks.h"

namespace attn::attnres {

/// Teams of a CTA take groups of tokens in turn. Much of a group's time is latency that no warp of its team can
/// use, so that several groups are under way.
inline constexpr int kMostTeams = 4;
inline constexpr int kTeamWarps = 4;
inline constexpr int kMostStages = 16;
/// Columns of a step of the products: rows are padded to whole steps.
inline constexpr int kStepColumns = 32;

/// Full barriers of every team and stage, two for each team's exchange, and what group a stage has; at the start
/// of shared memory.
struct BulkRing {
  std::uint64_t full[kMostTeams][kMostStages];
  std::uint64_t exchange[kMostTeams][2];
  int group[kMostStages];
};
static_assert(sizeof(BulkRing) % 16 == 0, "rows follow, and start on 16 bytes");

/// Groups of eight columns [first, first + count) of a row.
struct ColumnRange {
  int first, count;
};
/// What CTA `rank` of a cluster has of rows of `groups` groups.
constexpr ColumnRange columns_of(int groups, int ranks, int rank) {
  const int first = rank * groups / ranks;
  return {first, (rank + 1) * groups / ranks - first};
}

/// A layout; plain integers, so that kernels take it as an argument.
struct BulkConfig {
  int ranks = 0;  ///< CTAs of a cluster; 0 where nothing fits
  int teams = kMostTeams;
  int tokens = 1;  ///< of a group
  int stages = 0;
  int group_rows = 0;     ///< staged rows of a group
  int resident_rows = 0;  ///< rows that stay, before the stages
  int padded = 0;         ///< columns of a row in shared memory: this rank's, then zeros
  std::size_t shared_bytes = 0;

  constexpr int threads() const { return 32 * kTeamWarps * teams; }
  /// Rows lie an odd number of 16 bytes apart: eight neighbours meet no bank twice.
  constexpr int row_bytes() const { return padded * 2 + 16; }
  constexpr int stage_bytes() const { return group_rows * row_bytes(); }
  constexpr int steps() const { return padded / kStepColumns; }
  constexpr int resident_offset() const { return static_cast<int>(sizeof(BulkRing)); }
  constexpr int stage_offset() const { return resident_offset() + resident_rows * row_bytes(); }
  /// What a kernel keeps besides, behind the stages.
  constexpr int rest_offset() const { return stage_offset() + stages * stage_bytes(); }
};

/// What a kernel wants to lay out.
struct BulkNeeds {
  std::int64_t tokens = 0;
  std::int64_t D = 0;     ///< a multiple of 8
  int token_rows = 0;     ///< 16-bit rows that come with every token
  int group_tokens = 1;   ///< at most, of a group
  int resident_rows = 0;  ///< 16-bit rows that stay
  /// Teams of a layout that has ranks and groups.
  std::function<int(const BulkConfig&)> teams;
  /// Bytes besides, a multiple of 16, of a layout that has everything but stages.
  std::function<std::int64_t(const BulkConfig&)> rest_bytes;
};

/// The fewest ranks, then the largest groups, with a stage for each team or for each of a cluster's
/// groups; few tokens are spread over all ranks that there are SMs for. Else what has most stages.
BulkConfig choose_bulk(const BulkNeeds& needs, const DeviceInfo& device);

/// For a row of results: "2 CTAs a cluster, 5 stages of 2 tokens".
std::string describe(const BulkConfig& config);

}  // namespace attn::attnres
