// What bulk_sm90 takes, and the layout that it gives a problem.
#include "impls/attnres/query_terms.h"
#include "impls/attnres_phase1/bulk_sm90.h"

namespace attn::attnres_phase1 {

using Problem = AttnResPhase1::Problem;

int bulk_terms(const Problem& p) { return attnres::query_terms(p.query_type(), p.dtype); }

attnres::BulkConfig bulk_config(const Problem& p, const DeviceInfo& device) {
  const auto S = static_cast<int>(p.S);
  const int terms = bulk_terms(p);
  constexpr std::int64_t kColumns = 8;  // of a product: the rows of a group
  return attnres::choose_bulk(
      {.tokens = p.tokens(),
       .D = p.D,
       .token_rows = static_cast<int>(p.N),
       .group_tokens = static_cast<int>(std::max<std::int64_t>(1, kColumns / p.N)),
       .resident_rows = S * terms,
       .teams = [&](const attnres::BulkConfig& config) { return bulk_shape(config, p).teams(); },
       .rest_bytes =
           [=](const attnres::BulkConfig& config) {
             const int floats = BulkSums::of(config, S, terms).team_floats();
             return std::int64_t{4} * config.teams * floats;
           }},
      device);
}

BulkShape bulk_shape(const attnres::BulkConfig& config, const Problem& p) {
  if (config.group_rows > attnres::kTileRows)
    return {.tiles = config.group_rows > 2 * attnres::kTileRows ? 0 : 2, .chunks = 1};
  constexpr int kChunk = attnres::kChunkColumns;
  const auto share = [&](int columns) {
    const auto width = static_cast<int>((p.D + config.ranks - 1) / config.ranks);
    const int chunks = (width + columns - 1) / columns;
    return (chunks + attnres::kTeamWarps - 1) / attnres::kTeamWarps * (columns / kChunk);
  };
  const bool pairs = p.N > 1 && p.S > 4 && share(2 * kChunk) == share(kChunk);
  return {.tiles = 1, .chunks = pairs ? 2 : 1};
}

bool bulk_draws(const attnres::BulkConfig& config, const Problem& p, const DeviceInfo& device) {
  constexpr std::int64_t kFewest = 32;  // groups of an SM
  return bulk_shape(config, p).chunks == 2 && config.ranks == 1 &&
         p.tokens() >= kFewest * config.tokens * device.sm_count;
}

Support bulk_supports(const Problem& p, const DeviceInfo& device) {
  if (device.sm != 90) return Support::no("needs sm_90");
  if (size_of(p.dtype) != 2) return Support::no("dtype must be f16 or bf16");
  if (bulk_terms(p) == 0)
    return Support::no("query_dtype must be dtype, or f32 with sources in bf16");
  if (p.D % 8 != 0) return Support::no("D must be a multiple of 8");
  if (p.source_stride() % 8 != 0) return Support::no("token_stride must be a multiple of 8");
  if (bulk_config(p, device).ranks == 0)
    return Support::no("queries and a token's rows must fit the shared memory of eight CTAs");
  return Support::yes();
}

}  // namespace attn::attnres_phase1
