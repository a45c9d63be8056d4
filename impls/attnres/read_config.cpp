// The choice of team, rows and queries.
#include "impls/attnres/read_config.h"

#include <algorithm>

namespace attn::attnres {
namespace {

/// Shared memory of a layout, as the kernels carve it up.
std::size_t shared_bytes(const ReadNeeds& needs, const ReadConfig& config) {
  const std::int64_t table = config.layout.shared_table ? needs.table_floats : 0;
  const std::int64_t rows = config.layout.rows == Rows::kStaged ? 2 * needs.row_bytes : 0;
  return static_cast<std::size_t>(4 * (table + needs.cta_floats) + config.teams * rows +
                                  4 * config.teams * config.team_warps * needs.warp_floats);
}

/// As many teams as fit; tokens under way, over what a token costs.
double fill(const ReadNeeds& needs, std::int64_t D, std::size_t available, ReadConfig& config) {
  config.teams = std::min(needs.cta_warps / config.team_warps, needs.most_teams);
  while (config.teams > 0 && shared_bytes(needs, config) > available) --config.teams;
  if (config.teams == 0) return 0;
  config.shared_bytes = shared_bytes(needs, config);
  const std::int64_t team_threads = 32 * config.team_warps;
  const std::int64_t rounds = (column_groups(D) + team_threads - 1) / team_threads;
  // A round over a thread's columns costs about four times what the sums over a warp do.
  const auto cost = static_cast<double>(config.team_warps * (4 * rounds + 1));
  // Rows that are not staged are waited for, twice; a table in global memory is slower than shared.
  const double waiting = config.layout.rows == Rows::kStaged ? 1 : 0.5;
  return waiting * (config.layout.shared_table ? 1 : 0.8) * config.teams * config.team_warps / cost;
}

}  // namespace

int query_tile(std::int64_t S) {
  if (S <= 2) return static_cast<int>(S);
  if (S <= 4) return 4;
  const std::int64_t rest = S % 8;
  return S > 8 && rest >= 1 && rest <= 4 ? 4 : 8;
}

ReadConfig choose_read(const ReadNeeds& needs,
                       std::int64_t D,
                       std::span<const Layout> layouts,
                       std::size_t available) {
  ReadConfig best;
  best.team_warps = 0;
  double most = 0;
  for (const Layout& layout : layouts) {
    for (int warps = 1; warps <= needs.cta_warps; ++warps) {
      ReadConfig config{layout, warps};
      const double score = fill(needs, D, available, config);
      if (score > most) {
        most = score;
        best = config;
      }
    }
  }
  return best;
}

int held_queries(const ReadConfig& config, std::int64_t S, std::int64_t D) {
  const bool staged = config.layout.rows == Rows::kStaged && config.layout.shared_table;
  if (!staged || S > 8 || column_groups(D) > config.threads()) return 0;
  if (S == 1) return 1;
  return S <= 4 ? 4 : 8;
}

std::string describe(const ReadConfig& config, const std::string& table) {
  constexpr const char* kNames[] = {"staged rows", "16-byte loads", "scalar loads"};
  return std::string(kNames[static_cast<int>(config.layout.rows)]) + ", " +
         std::to_string(config.teams) + " teams of " + std::to_string(config.team_warps) +
         " warps, " + table + " in " + (config.layout.shared_table ? "shared" : "global") +
         " memory";
}

bool has_vector_rows(const void* data, std::int64_t stride, std::int64_t D, DType dtype) {
  const auto width = static_cast<std::int64_t>(16 / size_of(dtype));
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % width == 0 && D % 8 == 0;
}

bool has_vector_rows(const Planes& planes, const SourceProblem& p) {
  for (std::int64_t n = 0; n < p.N; ++n) {
    if (!has_vector_rows(planes.data[static_cast<std::size_t>(n)], planes.stride, p.D,
                         planes.dtype))
      return false;
  }
  return true;
}

}  // namespace attn::attnres
