// Which keys of a long prompt to keep, by what its last queries look at (SnapKV: Li et al., 2024).
//
// The queries of an observation window at the prompt's end score all keys before it; the scores of
// heads that share a key head are added; neighbours are pooled, so that a kept key brings its
// context; each key head keeps its best keys and the whole window.
//
// Two passages are planted that the last queries ask for, one for each key head. The program fails
// where they are not kept.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "examples/column_scores.h"

namespace {

constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kKeyHeads = 2;
constexpr std::int64_t kPrompt = 300;
constexpr std::int64_t kWindow = 32;
constexpr std::int64_t kD = 64;
constexpr std::size_t kKept = 24;  // keys a head, besides the window
constexpr std::int64_t kPool = 7;  // keys
constexpr std::int64_t kPlanted[kKeyHeads] = {41, 205};
constexpr float kPull = 12;  // of a planted key on the queries of the window

/// The maximum over a neighbourhood of `width` scores, centred.
std::vector<float> max_pool(std::span<const float> scores, std::int64_t width) {
  const auto count = static_cast<std::int64_t>(scores.size());
  std::vector<float> pooled;
  for (std::int64_t n = 0; n < count; ++n) {
    const std::int64_t begin = std::max<std::int64_t>(n - width / 2, 0);
    const std::int64_t end = std::min(n + width / 2 + 1, count);
    pooled.push_back(*std::max_element(scores.begin() + begin, scores.begin() + end));
  }
  return pooled;
}

/// Adds to each query of the window a multiple of the key that its head is to look for.
void plant(std::vector<float>& q, const std::vector<float>& k) {
  for (std::int64_t h = 0; h < kHeads; ++h) {
    const std::int64_t key_head = h / (kHeads / kKeyHeads);
    const std::int64_t key = (key_head * kPrompt + kPlanted[key_head]) * kD;
    for (std::int64_t m = kPrompt - kWindow; m < kPrompt; ++m)
      for (std::int64_t d = 0; d < kD; ++d)
        q[static_cast<std::size_t>((h * kPrompt + m) * kD + d)] +=
            kPull / 8 * k[static_cast<std::size_t>(key + d)];
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<float> q = attn::random_rows(kHeads * kPrompt, kD, 1);
  const std::vector<float> k = attn::random_rows(kKeyHeads * kPrompt, kD, 2);
  plant(q, k);

  const attn::ColReduce::Problem problem{.H = kHeads,
                                         .H_kv = kKeyHeads,
                                         .M = kPrompt,
                                         .N = kPrompt,
                                         .D = kD,
                                         .mask = attn::Mask::kCausal,
                                         .query_begin = -kWindow,
                                         .heads = attn::Heads::kGroup};
  const attn::ColumnScores scores = attn::column_scores(problem, q, k, argc > 1 ? argv[1] : "auto");

  bool found = true;
  for (std::int64_t head = 0; head < kKeyHeads; ++head) {
    // The window is kept anyway: only the keys before it compete.
    const std::span<const float> before(scores.values.data() + head * kPrompt, kPrompt - kWindow);
    const std::vector<std::int64_t> kept = attn::largest(max_pool(before, kPool), kKept);
    std::printf("key head %d keeps", static_cast<int>(head));
    for (const std::int64_t n : kept) std::printf(" %d", static_cast<int>(n));
    std::printf(" and the last %d\n", static_cast<int>(kWindow));
    for (std::int64_t n = kPlanted[head] - kPool / 2; n <= kPlanted[head] + kPool / 2; ++n)
      found = found && std::binary_search(kept.begin(), kept.end(), n);
  }
  std::printf("planted passages %s, by %s\n", found ? "kept" : "LOST", scores.backend.c_str());
  return found ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
  std::fprintf(stderr, "select_keys: %s\n", error.what());
  return 2;
}
