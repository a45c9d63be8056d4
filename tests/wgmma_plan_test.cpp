// What wgmma_sm90 plans for a problem: pure functions, tested without a GPU.
#include "impls/colreduce/wgmma_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "reference/colreduce/random_suite.h"

namespace attn::colreduce {
namespace {

using Problem = ColReduce::Problem;

DeviceInfo hopper() {
  DeviceInfo device;
  device.sm = 90;
  device.sm_count = 132;
  device.l2_bytes = std::size_t{50} << 20;
  return device;
}

WgmmaPlan plan_of(const Problem& problem) { return wgmma_plan(problem, hopper()); }

TEST(WgmmaPlan, SequencesSeeWhatTheirPartsSee) {
  const Problem problems[] = {
      {.M = 70, .N = 90, .mask = Mask::kCausal, .query_begin = 33, .query_end = 60, .window = 9},
      {.M = 90, .N = 70, .mask = Mask::kCausalTopLeft, .query_begin = -20, .window = 5},
      {.B = 2,
       .M = 90,
       .N = 70,
       .mask = Mask::kCausal,
       .query_begin = -20,
       .window = 30,
       .q_len = {40, 9},
       .kv_len = {70, 33}},
      {.M = 90,
       .N = 70,
       .mask = Mask::kCausal,
       .query_begin = 2,
       .window = 7,
       .cu_q = {0, 1, 60, 90},
       .cu_k = {0, 9, 33, 70}}};
  for (const Problem& p : problems) {
    const WgmmaSequences sequences = sequences_of(p);
    const std::vector<ColReduce::Part> parts = ColReduce::parts(p);
    ASSERT_EQ(sequences.list.size(), parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const WgmmaSequence& own = sequences.list[i];
      const RowRange queries = parts[i].problem.contributing();
      const AttentionMask mask = parts[i].problem.attention_mask();
      EXPECT_EQ(own.mask.M, queries.count());
      EXPECT_EQ(own.q_first, parts[i].q_first + queries.begin);
      EXPECT_EQ(own.k_first, parts[i].k_first);
      EXPECT_EQ(own.lse_first % 4, 0);
      EXPECT_LE(own.lse_first + own.mask.M, sequences.lse_pitch);
      for (std::int64_t m = 0; m < own.mask.M; ++m)
        for (std::int64_t n = 0; n < own.mask.N; ++n)
          EXPECT_EQ(own.mask.visible(m, n), mask.visible(queries.begin + m, n));
    }
  }
}

TEST(WgmmaPlan, WindowsThatHideNothingNeedNoOptions) {
  Problem p{.H = 4, .M = 100, .N = 131, .window = 131};
  EXPECT_FALSE(plan_of(p).column_options);
  p.window = 130;  // the last query reaches its first key
  EXPECT_FALSE(plan_of(p).column_options);
  p.window = 129;
  EXPECT_TRUE(plan_of(p).column_options);
  p.query_end = 99;
  EXPECT_FALSE(plan_of(p).column_options);
}

TEST(WgmmaPlan, PlainProblemsAndRangesTakeThePlainKernels) {
  for (const Lse lse : {Lse::kNone, Lse::kIn, Lse::kOut}) {
    const Problem p{
        .H = 32, .M = 4096, .N = 4096, .mask = Mask::kCausal, .query_begin = 7, .lse = lse};
    EXPECT_FALSE(plan_of(p).row_options);
    EXPECT_FALSE(plan_of(p).column_options);
  }
  // Heads that share keys are only worth it with few queries.
  EXPECT_FALSE(plan_of({.H = 32, .H_kv = 8, .M = 4096, .N = 4096}).row_options);
  EXPECT_TRUE(plan_of({.H = 32, .H_kv = 8, .M = 4096, .N = 4096, .query_begin = -64}).row_options);
}

/// Every stationary tile of every sequence once, none that streams more behind one that streams
/// less.
TEST(WgmmaPlan, UnitsAreAllTilesTheLongestFirst) {
  const Problem p{.H = 2,
                  .M = 5000,
                  .N = 7000,
                  .mask = Mask::kCausal,
                  .cu_q = {0, 1, 3000, 3300, 5000},
                  .cu_k = {0, 256, 3256, 6000, 7000}};
  const WgmmaSequences sequences = sequences_of(p);
  for (const bool keys : {false, true}) {
    std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
    int before = 1 << 30;
    for (const WgmmaUnit& unit : longest_first(sequences, keys, 256, 128)) {
      EXPECT_TRUE(seen.insert({unit.sequence, unit.tile}).second);
      const AttentionMask& mask = sequences.list[unit.sequence].mask;
      const std::int64_t first = std::int64_t{unit.tile} * 256;
      const std::int64_t last = std::min(first + 256, keys ? mask.N : mask.M) - 1;
      const int tiles =
          (keys ? query_tiles(mask, first, last, 128) : key_tiles(mask, first, last, 128)).count();
      EXPECT_LE(tiles, before);
      before = tiles;
    }
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), tiles_of(sequences, keys, 256, 1));
  }
}

TEST(WgmmaPlan, TilesHoldWhatIsVisible) {
  for (const std::int64_t window : {-1, 0, 5, 40}) {
    for (const Mask kind : {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft}) {
      for (const auto& [M, N] : {std::pair{37, 50}, std::pair{50, 37}}) {
        const AttentionMask mask = AttentionMask::make(kind, M, N, window);
        for (int first = 0; first < M; first += 16) {
          const int last = std::min(first + 16, M) - 1;
          const TileRange tiles = key_tiles(mask, first, last, 8);
          EXPECT_LE(tiles.begin, tiles.end);
          for (int m = first; m <= last; ++m)
            for (int n = 0; n < N; ++n)
              EXPECT_TRUE(!mask.visible(m, n) || (n / 8 >= tiles.begin && n / 8 < tiles.end));
        }
        for (int first = 0; first < N; first += 16) {
          const int last = std::min(first + 16, N) - 1;
          const TileRange tiles = query_tiles(mask, first, last, 8);
          for (int n = first; n <= last; ++n)
            for (int m = 0; m < M; ++m)
              EXPECT_TRUE(!mask.visible(m, n) || (m / 8 >= tiles.begin && m / 8 < tiles.end));
        }
      }
    }
  }
}

TEST(WgmmaPlan, PacksHoldAllQueriesOfAHead) {
  EXPECT_EQ(choose_pack_rows(256, 4096, 4), 256);
  EXPECT_EQ(choose_pack_rows(256, 64, 4), 64);
  EXPECT_EQ(choose_pack_rows(256, 65, 4), 128);
  EXPECT_EQ(choose_pack_rows(256, 1, 2), 128);  // no more heads share the keys
  EXPECT_EQ(choose_pack_rows(128, 1, 64), 16);
  for (std::int64_t queries = 1; queries < 300; ++queries) {
    for (std::int64_t sharing = 1; sharing < 20; ++sharing) {
      const int rows = choose_pack_rows(128, queries, sharing);
      EXPECT_EQ(128 % rows, 0);
      EXPECT_TRUE(rows == 128 || rows >= queries);
    }
  }
}

TEST(WgmmaPlan, SpansShareOutAllHeads) {
  for (const std::int64_t H : {1, 6, 12, 28, 32}) {
    for (const std::int64_t sharing : {1, 2, 7}) {
      if (H % sharing != 0) continue;
      for (const std::int64_t combined : {std::int64_t{1}, sharing, H}) {
        for (const std::int64_t tiles : {1, 4, 64, 1000}) {
          for (const auto& [limit, typical] : {std::pair{1, 50}, {3, 100}, {100, 50}, {100, 100}}) {
            const std::int64_t span = choose_head_span({.key_tiles = tiles,
                                                        .H = H,
                                                        .sharing = sharing,
                                                        .combined = combined,
                                                        .queries = 100,
                                                        .typical = typical,
                                                        .limit = limit,
                                                        .sm_count = 132});
            EXPECT_TRUE(sharing % span == 0 || span % sharing == 0);
            EXPECT_EQ(H % span, 0);
            if (combined > 1) {
              EXPECT_EQ(combined % span, 0);
              EXPECT_LE(combined / span, limit);
            } else {
              EXPECT_LE(span, sharing);
            }
          }
        }
      }
    }
  }
}

TEST(WgmmaPlan, CombinedHeadsFillTheDevice) {
  // 64 tiles of keys: one CTA each would leave half of the device idle.
  const WgmmaPlan one = plan_of({.H = 16, .M = 16384, .N = 16384, .D = 64, .heads = Heads::kMean});
  EXPECT_GT(one.head_parts(), 1);
  const WgmmaPlan many =
      plan_of({.B = 64, .H = 16, .M = 1024, .N = 1024, .D = 64, .heads = Heads::kMean});
  EXPECT_EQ(many.head_parts(), 1);
}

/// Early keys see twice the average: with two heads a CTA the longest item alone would take as long as all work shared
/// out over twice the SMs.
TEST(WgmmaPlan, HeadsPartWhereADiagonalMakesItemsUneven) {
  Problem p{.H = 16, .H_kv = 8, .M = 4096, .N = 4096, .D = 256, .softcap = 50};
  EXPECT_EQ(plan_of(p).span, 2);
  p.mask = Mask::kCausal;
  EXPECT_EQ(plan_of(p).span, 1);
  p.M = p.N = 32768;
  EXPECT_EQ(plan_of(p).span, 2);
}

TEST(WgmmaPlan, ScratchMemoryStaysInItsBounds) {
  for (const std::int64_t B : {1, 3, 300}) {
    for (const std::int64_t M : {1, 7, 64, 1000, 20000}) {
      for (const std::int64_t N : {1, 500, 131072}) {
        for (const Heads heads : {Heads::kEach, Heads::kMean, Heads::kGroup}) {
          for (const bool ragged : {false, true}) {
            Problem p{.B = B, .H = 8, .H_kv = 2, .M = M, .N = N, .D = 64, .heads = heads};
            if (ragged) p.q_len.assign(static_cast<std::size_t>(B), M / 2 + 1);
            const WgmmaPlan plan = plan_of(p);
            EXPECT_LE(plan.bytes(), 4 * B * 8 * M + kExtraBytes);
            if (plan.splits.in_output) {
              EXPECT_LE(plan.lse_bytes * plan.splits.parts, 4 * B * p.out_heads() * N);
            }
          }
        }
      }
    }
  }
}

/// Runs the numbering of a pass as its CTAs do, and calls `visit(item)` for each item.
template <bool kKeys, int kStreamRows, class Visit>
void walk_tiles(const WgmmaNumbers& numbers, Visit&& visit) {
  constexpr std::uint32_t kCtas = 7;
  for (std::uint32_t cta = 0; cta < kCtas; ++cta) {
    bool first_of_chain = true;
    for (std::uint32_t round = 0;; ++round) {
      WgmmaOptionItem item;
      WgmmaNumbering<kKeys, kStreamRows>::decode(numbers, round, cta, kCtas, item);
      if (item.tiles < 0) break;
      visit(item, first_of_chain);
      first_of_chain = item.last_of_chain;
    }
    EXPECT_TRUE(first_of_chain) << "no chain is left open";
  }
}

template <bool kKeys, class Visit>
void walk(const Problem& p, const WgmmaNumbers& numbers, Visit&& visit) {
  if (wgmma_stream_rows(p.D) == 128) return walk_tiles<kKeys, 128>(numbers, visit);
  walk_tiles<kKeys, 64>(numbers, visit);
}

/// Problems of every kind of items.
std::vector<Problem> problems_with_options() {
  std::vector<Problem> problems;
  for (const std::int64_t M : {40, 700}) {
    for (const Heads heads :
         {Heads::kEach, Heads::kMean, Heads::kSum, Heads::kMax, Heads::kGroup}) {
      for (const std::int64_t H_kv : {1, 2, 6}) {
        const Problem p{.B = 2,
                        .H = 6,
                        .H_kv = H_kv,
                        .M = M,
                        .N = 900,
                        .D = 64,
                        .mask = Mask::kCausal,
                        .window = 300,
                        .heads = heads};
        problems.push_back(p);
        problems.push_back(p);
        problems.back().q_len = {M, M / 3};
        problems.back().kv_len = {900, 411};
        problems.push_back(p);
        problems.back().B = 1;
        problems.back().cu_q = {0, 1, M / 2, M / 2, M};
        problems.back().cu_k = {0, 500, 501, 700, 900};
      }
    }
  }
  constexpr std::size_t kRandom = 1000;
  const Suite<Problem> random = random_suite();
  for (std::size_t i = 0; i < kRandom; ++i) problems.push_back(random.cases[i].problem);
  return problems;
}

/// Tables as the device finds them.
void set_tables(const Problem& p, const WgmmaPlan& plan, bool keys, WgmmaNumbers& numbers) {
  if (!p.is_ragged()) return;
  numbers.sequences = plan.sequences.list.data();
  numbers.units = keys ? plan.column_units.data() : plan.row_units.data();
}

/// Every contributing query of every head is in one item, or one for each split of its keys, whose
/// tiles make up what it sees.
TEST(WgmmaPlan, RowItemsHoldEveryQueryAndItsKeys) {
  for (const Problem& p : problems_with_options()) {
    const WgmmaPlan plan = plan_of(p);
    if (plan.sequences.list.empty()) continue;
    const int stream_rows = wgmma_stream_rows(p.D);
    WgmmaNumbers numbers = row_numbers(p, plan, hopper());
    set_tables(p, plan, false, numbers);
    std::map<std::pair<std::int64_t, std::int64_t>, int> tiles;  // by head and place in its lse
    walk<false>(p, numbers, [&](const WgmmaOptionItem& item, bool) {
      EXPECT_EQ(item.tiles, item.head_tiles);
      EXPECT_EQ(item.stream_head, item.stationary_head / plan.sharing);
      for (int offset = 0; offset < item.packed_rows; ++offset) {
        const int m = item.first_row + offset % item.pack_rows;
        if (m >= item.rows) continue;
        const std::int64_t head = item.head + offset / item.pack_rows;
        EXPECT_EQ(head / p.H, item.batch);
        EXPECT_EQ(head % p.H / plan.sharing, item.stream_head);
        tiles[{head, item.lse_first + m}] += item.tiles;
      }
    });
    std::size_t queries = 0;
    for (const WgmmaSequence& own : plan.sequences.list)
      queries += static_cast<std::size_t>(own.mask.M * p.H * (p.is_ragged() ? 1 : p.B));
    EXPECT_EQ(tiles.size(), queries);
    for (const WgmmaSequence& own : plan.sequences.list) {
      for (std::int64_t m = 0; m < own.mask.M; ++m) {
        const std::int64_t first = m / plan.row_pack * plan.row_pack;
        const std::int64_t last = std::min(first + plan.row_pack, own.mask.M) - 1;
        EXPECT_EQ((tiles[{own.batch * p.H + p.H - 1, own.lse_first + m}]),
                  key_tiles(own.mask, first, last, stream_rows).count());
      }
    }
  }
}

/// Every head's queries pass every key that they see once, and chains add them to the right output.
TEST(WgmmaPlan, ColumnItemsHoldEveryKeyAndItsQueries) {
  for (const Problem& p : problems_with_options()) {
    const WgmmaPlan plan = plan_of(p);
    if (!plan.column_options || plan.sequences.list.empty()) continue;
    const int stream_rows = wgmma_stream_rows(p.D);
    WgmmaNumbers numbers = column_numbers(p, plan, hopper());
    set_tables(p, plan, true, numbers);
    std::set<std::tuple<std::int64_t, int, int>> seen;  // head, origin and first row of the keys
    std::map<std::pair<int, int>, int> heads;           // of a row of `out`, by first key
    std::set<std::pair<int, int>> stored;
    walk<true>(p, numbers, [&](const WgmmaOptionItem& item, bool first_of_chain) {
      const int key = item.stationary_origin + item.first_row;
      EXPECT_EQ(item.stationary_head, item.stream_head / plan.sharing);
      const int last = std::min(item.first_row + 256, item.rows) - 1;
      EXPECT_EQ(item.head_tiles, query_tiles(item.mask, item.first_row, last, stream_rows).count());
      EXPECT_EQ(item.tiles,
                item.head_tiles * ((item.heads + item.tile_heads - 1) / item.tile_heads));
      for (int own = 0; own < item.heads; ++own) {
        const std::int64_t head = item.head + own;
        EXPECT_TRUE(seen.insert({head, item.stationary_origin, item.first_row}).second);
        const int out_row = item.out_row + (plan.combined == 1 ? own : 0);
        EXPECT_EQ(out_row % (p.B * p.out_heads()), head / plan.combined);
        heads[{out_row, key}] += 1;
      }
      if (plan.combined == 1) return;
      const std::pair<int, int> out{item.out_row, key};
      EXPECT_EQ(first_of_chain, heads[out] == item.heads) << "one chain an output";
      if (item.last_of_chain) {
        EXPECT_TRUE(stored.insert(out).second);
        EXPECT_EQ(heads[out], plan.span);
      }
    });
    const std::int64_t key_units = tiles_of(plan.sequences, true, 256, p.is_ragged() ? 1 : p.B);
    EXPECT_EQ(static_cast<std::int64_t>(seen.size()), key_units * p.H);
    if (plan.combined > 1) {
      EXPECT_EQ(static_cast<std::int64_t>(stored.size()), key_units * p.H / plan.span);
    }
  }
}

TEST(WgmmaPlan, NothingIsPlannedForEmptySequences) {
  const WgmmaPlan plan = plan_of({.B = 2, .M = 8, .N = 8, .q_len = {0, 8}, .kv_len = {8, 0}});
  EXPECT_TRUE(plan.sequences.list.empty());
  EXPECT_EQ(plan.bytes(), 0);
}

}  // namespace
}  // namespace attn::colreduce
