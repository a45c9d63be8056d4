// How a CUDA kernel of the family lays tokens, rows and queries out on an SM: chosen on the host, by
// arithmetic alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "impls/attnres/rows.h"
#include "reference/attnres/contract.h"

namespace attn::attnres {

inline constexpr int kCtaWarps = 16;  ///< at most: 128 registers for each of their threads

/// What a token costs in shared memory, of one kernel.
struct ReadNeeds {
  std::int64_t row_bytes = 0;  ///< of a token's rows; twice, as the next token's are on their way
  std::int64_t table_floats = 0;  ///< [S, D] of the CTA: queries or their gradient, where it fits
  std::int64_t cta_floats = 0;    ///< of the CTA besides
  std::int64_t warp_floats = 0;   ///< of each warp
  int cta_warps = kCtaWarps;      ///< at most
  int most_teams = kCtaWarps;
};

/// What a kernel has been compiled for.
struct Layout {
  Rows rows = Rows::kSingle;
  bool shared_table = false;  ///< queries or their gradient are in shared memory
};

struct ReadConfig {
  Layout layout;
  int team_warps = 1;
  int teams = 1;
  std::size_t shared_bytes = 0;

  int threads() const { return 32 * team_warps * teams; }
};

/// Groups of eight columns of a row.
inline std::int64_t column_groups(std::int64_t D) { return (D + 7) / 8; }

/// Queries that a kernel handles at a time: 1, 2, 4 or 8.
int query_tile(std::int64_t S);

/// Of the layouts that are compiled, the one with the most tokens under way, by their cost. team_warps
/// is 0 where nothing fits.
ReadConfig choose_read(const ReadNeeds& needs,
                       std::int64_t D,
                       std::span<const Layout> layouts,
                       std::size_t available);

/// Queries whose gradient a thread of a backward can keep in registers, beside a token's rows: 1, 4 or 8,
/// S rounded up, where it has one group of columns at most; 0 otherwise.
int held_queries(const ReadConfig& config, std::int64_t S, std::int64_t D);

/// For a row of results: "staged rows, 4 teams of 4 warps, queries in shared memory".
std::string describe(const ReadConfig& config, const std::string& table);

/// Whether rows of D elements, `stride` apart, are whole vectors at every token.
bool has_vector_rows(const void* data, std::int64_t stride, std::int64_t D, DType dtype);
bool has_vector_rows(const Planes& planes, const SourceProblem& p);
inline bool has_vector_rows(const TensorView& view) {
  return has_vector_rows(view.data, view.shape[3], view.shape[3], view.dtype);
}

}  // namespace attn::attnres
