// How the row-resident kernels divide a head among CTAs and CTAs among heads: pure functions,
// tested without a GPU.
#include "impls/colreduce/resident_choices.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "impls/colreduce/resident_tiles.h"

namespace attn::colreduce {
namespace {

constexpr std::int64_t kSizes[] = {1, 63, 64, 65, 130, 1000, 4160};
constexpr Mask kMasks[] = {Mask::kNone, Mask::kCausal, Mask::kCausalTopLeft};
constexpr int kMostRanks = 17;
constexpr int kAllChunks = 65;  // of 4160 keys

int chunks_of(const AttentionMask& mask) {
  return static_cast<int>((mask.N + kChunkKeys - 1) / kChunkKeys);
}

/// By the definition of masks: whether some query of the tile sees some key of the chunk.
bool sees(const AttentionMask& mask, int tile, int chunk) {
  const std::int64_t query_end = std::min<std::int64_t>((tile + 1) * kTileRows, mask.M);
  const std::int64_t key_end = std::min<std::int64_t>((chunk + 1) * kChunkKeys, mask.N);
  for (std::int64_t m = tile * kTileRows; m < query_end; ++m) {
    for (std::int64_t n = chunk * kChunkKeys; n < key_end; ++n) {
      if (mask.visible(m, n)) return true;
    }
  }
  return false;
}

/// Calls law(tiles of rank 0, chunks that the tiles see) for every shape, mask and number of ranks.
template <class Law>
void for_every_team(Law law) {
  for (const std::int64_t M : kSizes) {
    for (const std::int64_t N : kSizes) {
      for (const Mask kind : kMasks) {
        const AttentionMask mask = AttentionMask::make(kind, M, N);
        std::vector<std::vector<bool>> seen;  // [tile][chunk]
        for (int tile = 0; tile < TeamTiles{mask}.tiles(); ++tile) {
          seen.emplace_back();
          for (int chunk = 0; chunk < chunks_of(mask); ++chunk)
            seen.back().push_back(sees(mask, tile, chunk));
        }
        for (int ranks = 1; ranks <= kMostRanks; ++ranks) {
          SCOPED_TRACE(testing::Message()
                       << "M" << M << " N" << N << " " << kMaskNames[static_cast<int>(kind)]
                       << " ranks " << ranks);
          law(TeamTiles{mask, ranks, 0}, seen);
          if (testing::Test::HasFailure()) return;
        }
      }
    }
  }
}

using Seen = std::vector<std::vector<bool>>;

TeamTiles of_rank(TeamTiles team, int rank) {
  team.rank = rank;
  return team;
}

TEST(ResidentTiles, TilesCoverTheQueries) {
  for_every_team([](const TeamTiles& team, const Seen&) {
    EXPECT_GE(std::int64_t{team.tiles()} * kTileRows, team.mask.M);
    EXPECT_LT(std::int64_t{team.tiles() - 1} * kTileRows, team.mask.M);
  });
}

TEST(ResidentTiles, EveryChunkHasOneOwnerAndARankTakesItsOwnInOrder) {
  for_every_team([](const TeamTiles& team, const Seen&) {
    const int chunks = chunks_of(team.mask);
    std::vector<int> owners(static_cast<std::size_t>(chunks));
    for (int rank = 0; rank < team.ranks; ++rank) {
      const TeamTiles tiles = of_rank(team, rank);
      for (int j = 0; j <= chunks; ++j) {
        const int key = tiles.first_key(j);
        EXPECT_EQ(key % kChunkKeys, 0);
        EXPECT_LT(key, tiles.first_key(j + 1));
        if (key / kChunkKeys < chunks) ++owners[static_cast<std::size_t>(key / kChunkKeys)];
      }
    }
    EXPECT_EQ(std::count(owners.begin(), owners.end(), 1), chunks);
  });
}

TEST(ResidentTiles, VisibleChunksArePrefixesByTheDefinitionOfMasks) {
  for_every_team([](const TeamTiles& team, const Seen& seen) {
    for (int tile = 0; tile < team.tiles(); ++tile) {
      const std::vector<bool>& chunks = seen[static_cast<std::size_t>(tile)];
      const auto end = std::find(chunks.begin(), chunks.end(), false);
      EXPECT_EQ(std::find(end, chunks.end(), true), chunks.end());
      EXPECT_EQ(team.visible_chunks(tile), end - chunks.begin()) << "tile " << tile;
    }
  });
}

/// Kernels do not ask the mask.
TEST(ResidentTiles, CountsByTileAreWhatMasksSay) {
  for_every_team([](const TeamTiles& team, const Seen&) {
    const ChunkCount visible = team.visible();
    const ChunkCount whole = team.whole();
    for (int tile = 0; tile < team.tiles(); ++tile) {
      EXPECT_EQ(visible.at(tile), team.visible_chunks(tile)) << "tile " << tile;
      const std::int64_t first_query = std::int64_t{tile} * kTileRows;
      EXPECT_EQ(whole.at(tile), team.mask.key_end(first_query) / kChunkKeys) << "tile " << tile;
    }
  });
}

TEST(ResidentTiles, OwnChunksAreTheVisibleOnesAndTheFirstOfTheRank) {
  for_every_team([](const TeamTiles& team, const Seen& seen) {
    for (int tile = 0; tile < team.tiles(); ++tile) {
      const int visible = team.visible_chunks(tile);
      for (int rank = 0; rank < team.ranks; ++rank) {
        const TeamTiles tiles = of_rank(team, rank);
        const int own = tiles.own_chunks<kAllChunks>(visible);
        int expected = 0;
        for (int j = 0; tiles.first_key(j) < team.mask.N; ++j) {
          const int chunk = tiles.first_key(j) / kChunkKeys;
          const bool is_seen =
              seen[static_cast<std::size_t>(tile)][static_cast<std::size_t>(chunk)];
          EXPECT_EQ(is_seen, j < own)
              << "tile " << tile << ", rank " << rank << ", chunk " << chunk;
          expected += is_seen;
        }
        EXPECT_EQ(own, expected) << "tile " << tile << ", rank " << rank;
        EXPECT_EQ(tiles.own_chunks<4>(visible), std::min(own, 4));
      }
    }
  });
}

TEST(ResidentTiles, RanksOfATeamWorkOnEquallyManyChunks) {
  for_every_team([](const TeamTiles& team, const Seen&) {
    for (int tile = 0; tile < team.tiles(); ++tile) {
      int fewest = kAllChunks;
      int most = 0;
      for (int rank = 0; rank < team.ranks; ++rank) {
        const int own = of_rank(team, rank).own_chunks<kAllChunks>(team.visible_chunks(tile));
        fewest = std::min(fewest, own);
        most = std::max(most, own);
      }
      EXPECT_LE(most - fewest, 1) << "tile " << tile;
    }
  });
}

/// What the zigzag is for: dealing in rounds alone would always favour the last ranks.
TEST(ResidentTiles, RanksOfASquareCausalHeadWorkEquallyMuch) {
  for (int ranks = 1; ranks <= kMostRanks; ++ranks) {
    for (const int chunks : {2 * ranks, 4 * ranks}) {
      const std::int64_t side = std::int64_t{chunks} * kChunkKeys;
      const TeamTiles team{AttentionMask::make(Mask::kCausal, side, side), ranks, 0};
      for (int rank = 0; rank < ranks; ++rank) {
        int work = 0;
        for (int tile = 0; tile < team.tiles(); ++tile)
          work += of_rank(team, rank).own_chunks<4>(team.visible_chunks(tile));
        EXPECT_EQ(work * ranks, chunks * (chunks + 1) / 2) << "rank " << rank << " of " << ranks;
      }
    }
  }
}

TEST(ResidentTiles, ParticipantsAreTheRanksThatOwnAVisibleChunk) {
  for_every_team([](const TeamTiles& team, const Seen&) {
    for (int tile = 0; tile < team.tiles(); ++tile) {
      const int visible = team.visible_chunks(tile);
      const int participants = team.participants(visible);
      for (int rank = 0; rank < team.ranks; ++rank)
        EXPECT_EQ(of_rank(team, rank).own_chunks<kAllChunks>(visible) > 0, rank < participants)
            << "tile " << tile << ", rank " << rank;
    }
  });
}

TEST(ResidentTiles, FromTheFirstTileOnSomeChunkIsSeen) {
  for_every_team([](const TeamTiles& team, const Seen&) {
    const int first = team.visible().first_tile();
    EXPECT_GE(first, 0);
    for (int tile = 0; tile < team.tiles(); ++tile)
      EXPECT_EQ(team.visible_chunks(tile) > 0, tile >= first) << "tile " << tile;
  });
}

constexpr std::int64_t kSms = 132;
constexpr std::int64_t kMostChunks = 4;

void expect_team(std::int64_t heads, std::int64_t chunks, int ranks, int teams) {
  const TeamChoice team = choose_team(heads, chunks, kSms, kMostChunks);
  EXPECT_EQ(team.ranks, ranks) << heads << " heads, " << chunks << " chunks";
  EXPECT_EQ(team.teams, teams) << heads << " heads, " << chunks << " chunks";
}

TEST(ResidentTeams, ShapesOfTheReadme) {
  expect_team(32, 16, 4, 32);
  expect_team(512, 16, 4, 33);
  expect_team(32, 256, 64, 2);
  expect_team(32, 512, 128, 1);
}

TEST(ResidentTeams, FewHeadsUseMoreCtas) {
  expect_team(8, 16, 16, 8);
  expect_team(1, 16, 16, 1);
  expect_team(4, 65, 33, 4);
  expect_team(1, 256, 128, 1);
}

/// Whose keys would fit 16 CTAs: a fifth round of fewer chunks takes longer than the fourth's idle teams.
TEST(ResidentTeams, IdleTeamsAreCheaperThanARoundMore) {
  expect_team(28, 64, 16, 8);
  expect_team(30, 64, 16, 8);
}

TEST(ResidentTeams, StaysInRangeForEveryShape) {
  for (std::int64_t heads = 1; heads < 100'000; heads = heads * 3 / 2 + 1) {
    for (std::int64_t chunks = 1; chunks < 5000; chunks = chunks * 5 / 4 + 1) {
      for (const std::int64_t sms : {1, 13, 114, 132}) {
        for (const std::int64_t most : {1, 4, 6, 12}) {
          const TeamChoice team = choose_team(heads, chunks, sms, most);
          ASSERT_EQ(team.ranks == 0, chunks > sms * most)
              << chunks << " chunks, " << sms << " SMs, at most " << most;
          if (team.ranks == 0) continue;
          ASSERT_GE(team.ranks * most, chunks);
          ASSERT_LE(team.ranks, chunks);
          ASSERT_GE(team.teams, 1);
          ASSERT_LE(team.teams, heads);
          ASSERT_LE(team.ranks * team.teams, sms);
        }
      }
    }
  }
}

TEST(ResidentTeams, KeysThatJustFit) {
  expect_team(3, kSms * kMostChunks, kSms, 1);
  expect_team(3, kSms * kMostChunks + 1, 0, 0);
}

TEST(ResidentHeads, EveryHeadHasOneTeamAndASliceIsOfOneOutput) {
  for (const int slice : {1, 2, 3, 16}) {
    for (const int slices : {1, 2, 7, 33, 67}) {
      for (int teams = 1; teams <= std::min(slices, 33); ++teams) {
        std::vector<int> seen(static_cast<std::size_t>(slices * slice));
        for (int team = 0; team < teams; ++team) {
          const TeamHeads heads{team, teams, slice};
          const int rounds = heads.rounds(slices * slice);
          ASSERT_EQ(rounds % slice, 0);
          SliceCursor cursor(heads);
          for (int round = 0; round < rounds; ++round) {
            const int head = heads.head_of(round);
            ASSERT_LT(head, slices * slice);
            ++seen[static_cast<std::size_t>(head)];
            EXPECT_EQ(head / slice, heads.slice_of(round));
            EXPECT_EQ(head / slice, cursor.slice);
            const bool ends = cursor.finish_head();
            EXPECT_EQ(head % slice == slice - 1, ends);
            if (ends) cursor.advance(heads);
          }
        }
        EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), slices * slice)
            << slices << " slices of " << slice << ", " << teams << " teams";
      }
    }
  }
}

TEST(ResidentHeads, TheChoiceIsTheCheapestDivisorThatScratchMemoryHolds) {
  constexpr std::int64_t kSms = 132;
  const auto choose = [](std::int64_t batches, std::int64_t combined, std::int64_t chunks,
                         std::int64_t tiles, std::int64_t most_parts) {
    return choose_slice({.heads = batches * combined,
                         .combined = combined,
                         .chunks = chunks,
                         .tiles = tiles,
                         .most_parts = most_parts,
                         .sm_count = kSms,
                         .most_chunks = 4});
  };
  for (const std::int64_t combined : {1, 2, 6, 16, 32}) {
    for (const std::int64_t batches : {1, 5, 64}) {
      for (const std::int64_t chunks : {1, 16, 64}) {
        for (const std::int64_t most_parts : {1, 4, 100}) {
          const SliceChoice chosen = choose(batches, combined, chunks, 16, most_parts);
          ASSERT_EQ(combined % chosen.slice, 0);
          EXPECT_LE(combined / chosen.slice, most_parts);
          EXPECT_LE(chosen.team.teams, batches * combined / chosen.slice);
        }
      }
    }
  }
  EXPECT_EQ(choose(33, 16, 16, 16, 100).slice, 16) << "batches enough for all teams: no merge";
  EXPECT_LT(choose(1, 16, 16, 16, 100).slice, 16) << "one batch: heads are spread over teams";
  EXPECT_EQ(choose(1, 16, 16, 16, 1).slice, 16) << "no room for parts";
}

}  // namespace
}  // namespace attn::colreduce
