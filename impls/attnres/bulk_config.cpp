// The choice of ranks, groups and stages.
#include "impls/attnres/bulk_config.h"

#include <algorithm>

namespace attn::attnres {
namespace {

/// Of a rank, where rows are split only because there are few tokens: an exchange between fewer costs
/// more than it saves.
constexpr int kFewestColumns = 128;

/// Clusters of `ranks` CTAs that run at once, about: those of four and eight leave some SMs of a GPC
/// unused (an H200 has 132, and room for 15 clusters of eight).
std::int64_t clusters(const DeviceInfo& device, int ranks) {
  const std::int64_t sms = std::max(1, device.sm_count);
  return std::max<std::int64_t>(1, ranks <= 2 ? sms / ranks : sms * 10 / 11 / ranks);
}

/// The layout with `ranks` CTAs and groups of `tokens`; no stages where it does not fit.
BulkConfig layout(const BulkNeeds& needs, int ranks, int tokens, std::size_t available) {
  const auto groups = static_cast<int>(needs.D / 8);
  const int widest = (groups + ranks - 1) / ranks;
  BulkConfig config;
  config.ranks = ranks;
  config.tokens = tokens;
  config.group_rows = tokens * needs.token_rows;
  config.teams = needs.teams(config);
  config.resident_rows = needs.resident_rows;
  config.padded = (widest * 8 + kStepColumns - 1) / kStepColumns * kStepColumns;
  const std::int64_t fixed = config.stage_offset() + needs.rest_bytes(config);
  const std::int64_t room = static_cast<std::int64_t>(available) - fixed;
  if (room >= config.stage_bytes())
    config.stages =
        static_cast<int>(std::min<std::int64_t>(kMostStages, room / config.stage_bytes()));
  config.shared_bytes =
      static_cast<std::size_t>(fixed + std::int64_t{config.stages} * config.stage_bytes());
  return config;
}

}  // namespace

BulkConfig choose_bulk(const BulkNeeds& needs, const DeviceInfo& device) {
  int fewest = 1;
  for (int ranks = 2; ranks <= kMostRanks && needs.D / ranks >= kFewestColumns; ranks *= 2)
    if (needs.tokens <= clusters(device, ranks)) fewest = ranks;
  BulkConfig best;
  for (int ranks = fewest; ranks <= std::min<std::int64_t>(kMostRanks, needs.D / 8); ranks *= 2) {
    const std::int64_t share = std::max<std::int64_t>(1, needs.tokens / clusters(device, ranks));
    for (std::int64_t tokens = std::min<std::int64_t>(needs.group_tokens, share); tokens >= 1;
         --tokens) {
      const BulkConfig config =
          layout(needs, ranks, static_cast<int>(tokens), device.shared_bytes_per_block);
      const std::int64_t cluster_tokens = clusters(device, ranks) * tokens;
      const std::int64_t rounds = (needs.tokens + cluster_tokens - 1) / cluster_tokens;
      if (config.stages >= 1 && config.stages >= std::min<std::int64_t>(config.teams, rounds))
        return config;
      if (config.stages > best.stages) best = config;
    }
  }
  return best;
}

std::string describe(const BulkConfig& config) {
  const std::string ranks =
      config.ranks == 1 ? "" : std::to_string(config.ranks) + " CTAs a cluster, ";
  return ranks + std::to_string(config.teams) + " teams, " + std::to_string(config.stages) +
         " stages of " + std::to_string(config.tokens) +
         (config.tokens == 1 ? " token" : " tokens");
}

}  // namespace attn::attnres
