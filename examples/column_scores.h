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
  std::string backend;        ///< its id and, in brackets, what it chose for the problem
};

/// Reduces q [B, H, M, D] and k [B, H_kv, N, D], dense and on the host, which are rounded to the
/// problem's dtype. All options of the problem apply but an lse. `backend` is an id as `attnbench
/// list` prints them; `auto` runs on the GPU where there is one. Throws std::invalid_argument, in one
/// sentence, where the problem or the data are not valid or the backend does not take the problem.
ColumnScores column_scores(const ColReduce::Problem& problem,
                           std::span<const float> q,
                           std::span<const float> k,
                           std::string_view backend = "auto");

/// The `count` largest of the scores, as indices in rising order; of equal scores the first ones.
std::vector<std::int64_t> largest(std::span<const float> scores, std::size_t count);

/// Random vectors [rows, D] with components of variance 1, always the same for a seed.
std::vector<float> random_rows(std::size_t rows, std::size_t D, std::uint32_t seed);

}  // namespace attn
