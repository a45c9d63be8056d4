// A cache of keys that stays small while a model decodes (H2O: Zhang et al., 2023): what each key
// has got of the attention of all steps is accumulated, and where the cache is full the key with
// the smallest sum goes, but none of the latest.
//
// One early key is planted that every step looks at. The program fails where it is evicted.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "examples/column_scores.h"

namespace {

constexpr std::int64_t kHeads = 4;
constexpr std::int64_t kD = 64;
constexpr std::int64_t kSteps = 60;
constexpr std::size_t kBudget = 24;  // keys in the cache
constexpr std::size_t kLatest = 8;   // of these, never evicted
constexpr std::int64_t kPlanted = 5;

/// A key of all heads, when it came, and the attention that it has got since.
struct CachedKey {
  std::int64_t step;
  std::vector<float> rows;  // [H, D]
  float accumulated;
};

/// [H, N, D] as the operator takes it.
std::vector<float> rows_of(const std::vector<CachedKey>& cache) {
  std::vector<float> k;
  for (std::int64_t h = 0; h < kHeads; ++h)
    for (const CachedKey& key : cache)
      k.insert(k.end(), key.rows.begin() + h * kD, key.rows.begin() + (h + 1) * kD);
  return k;
}

/// One direction that the queries of all steps share and only the planted key has.
void plant(std::vector<float>& q, std::vector<float>& k, std::int64_t step) {
  for (std::int64_t h = 0; h < kHeads; ++h) {
    q[static_cast<std::size_t>(h * kD)] = 5;
    k[static_cast<std::size_t>(h * kD)] = step == kPlanted ? 5.0f : 0.0f;
  }
}

void evict(std::vector<CachedKey>& cache) {
  const auto last = cache.end() - static_cast<std::ptrdiff_t>(kLatest);
  cache.erase(std::min_element(cache.begin(), last, [](const auto& a, const auto& b) {
    return a.accumulated < b.accumulated;
  }));
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<CachedKey> cache;
  std::string backend;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    const auto seed = static_cast<std::uint32_t>(step);
    std::vector<float> q = attn::random_rows(kHeads, kD, 100 + seed);
    std::vector<float> k = attn::random_rows(kHeads, kD, 200 + seed);
    plant(q, k, step);
    cache.push_back({step, k, 0});

    // The sum over heads of the weights that the step's one query gives to the cached keys.
    const attn::ColReduce::Problem problem{.H = kHeads,
                                           .M = 1,
                                           .N = static_cast<std::int64_t>(cache.size()),
                                           .D = kD,
                                           .heads = attn::Heads::kSum};
    const attn::ColumnScores scores =
        attn::column_scores(problem, q, rows_of(cache), argc > 1 ? argv[1] : "auto");
    backend = scores.backend;
    for (std::size_t n = 0; n < cache.size(); ++n) cache[n].accumulated += scores.values[n];
    if (cache.size() > kBudget) evict(cache);
  }

  std::printf("cached after %d steps:", static_cast<int>(kSteps));
  bool found = false;
  for (const CachedKey& key : cache) {
    std::printf(" %d", static_cast<int>(key.step));
    found = found || key.step == kPlanted;
  }
  std::printf("\nthe planted key %s, by %s\n", found ? "stayed" : "WAS EVICTED", backend.c_str());
  return found && cache.size() == kBudget ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (const std::exception& error) {
  std::fprintf(stderr, "evict_keys: %s\n", error.what());
  return 2;
}
