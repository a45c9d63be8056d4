// The column reduction as one function: from queries and keys to how much attention each key gets.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reference/colreduce/contract.h"

namespace attn {

/// What a call of column_scores found, and who computed it.
struct ColumnScores {
  std::vector<float> values;  // [B, heads of the output, N]
  std::string backend;
};

/// Reduces q [B, H, M, D] and k [B, H_kv, N, D], dense and on the host, which are rounded to the
/// problem's dtype. All options of the problem apply but an lse. `backend` is an id as `attnbench
/// list` prints them; empty: the last of that list which takes the problem on this machine, and runs
/// on its GPU where there is one. Throws std::invalid_argument, in one sentence, where the problem or
/// the data are not valid or no such backend takes the problem.
ColumnScores column_scores(const ColReduce::Problem& problem,
                           std::span<const float> q,
                           std::span<const float> k,
                           std::string_view backend = "");

/// The `count` largest of the scores, as indices in rising order; of equal scores the first ones.
std::vector<std::int64_t> largest(std::span<const float> scores, std::size_t count);

/// Random vectors [rows, D] with components of variance 1, always the same for a seed.
std::vector<float> random_rows(std::size_t rows, std::size_t D, std::uint32_t seed);

}  // namespace attn
