// Which tokens of an image to keep, by the attention that all of them pay to each (visual-token
// pruning): the mean over heads and queries of every column, of which the largest fraction stays.
//
// An object of 3 x 3 patches is planted that every patch looks at. The program fails where one of
// its patches is pruned.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "examples/column_scores.h"

namespace {

constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kSide = 14;  // patches, of a square image
constexpr std::int64_t kTokens = kSide * kSide;
constexpr std::int64_t kD = 72;
constexpr double kKeptFraction = 0.1;
constexpr std::int64_t kObjectRow = 4;  // of its first patch
constexpr std::int64_t kObjectColumn = 8;
constexpr std::int64_t kObjectSide = 3;

bool in_object(std::int64_t token) {
  const std::int64_t row = token / kSide - kObjectRow;
  const std::int64_t column = token % kSide - kObjectColumn;
  return row >= 0 && row < kObjectSide && column >= 0 && column < kObjectSide;
}

/// One direction that all queries share and only the object's keys have.
void plant(std::vector<float>& q, std::vector<float>& k) {
  for (std::int64_t h = 0; h < kHeads; ++h) {
    for (std::int64_t token = 0; token < kTokens; ++token) {
      const auto first = static_cast<std::size_t>((h * kTokens + token) * kD);
      q[first] = 6;
      k[first] = in_object(token) ? 4.0f : 0.0f;
    }
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<float> q = attn::random_rows(kHeads * kTokens, kD, 3);
  std::vector<float> k = attn::random_rows(kHeads * kTokens, kD, 4);
  plant(q, k);

  const attn::ColReduce::Problem problem{.H = kHeads,
                                         .M = kTokens,
                                         .N = kTokens,
                                         .D = kD,
                                         .reduction = attn::Reduction::kMean,
                                         .heads = attn::Heads::kMean};
  const attn::ColumnScores scores = attn::column_scores(problem, q, k, argc > 1 ? argv[1] : "auto");
  const auto count = static_cast<std::size_t>(kKeptFraction * static_cast<double>(kTokens));
  const std::vector<std::int64_t> kept = attn::largest(scores.values, count);

  bool whole = true;
  for (std::int64_t token = 0; token < kTokens; ++token) {
    const bool keeps = std::binary_search(kept.begin(), kept.end(), token);
    whole = whole && (keeps || !in_object(token));
    std::printf("%c%c", keeps ? '#' : '.', (token + 1) % kSide == 0 ? '\n' : ' ');
  }
  std::printf("%d of %d tokens kept, the object %s, by %s\n", static_cast<int>(kept.size()),
              static_cast<int>(kTokens), whole ? "whole" : "CUT", scores.backend.c_str());
  return whole ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
  std::fprintf(stderr, "prune_tokens: %s\n", error.what());
  return 2;
}
