// The column warps of the row-resident kernel: they reduce the weights in shared memory over the
// queries, every key in one warp, tiles in order.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "impls/arch/sm80/ldmatrix.cuh"
#include "impls/arch/sm80/mma.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/colreduce/mma_output.cuh"
#include "impls/colreduce/resident_exchange.cuh"
#include "impls/colreduce/resident_policy.cuh"

namespace attn::colreduce {

/// A sum is a product of the transposed weights with the row factors, on tensor cores: of the eight
/// columns of its B operand the even ones hold the factors in fp16, the odd ones what they lack (kRestBits), so that
/// all four lanes of a key have its sum, and each stores some. A maximum is taken on fp32 products.
template <class Policy, bool kMax>
class ColumnWarp {
 public:
  __device__ ColumnWarp(const ResidentArguments& args,
                        typename Policy::Shared& shared,
                        const Team& team,
                        int warp,
                        int lane)
      : args_(args),
        shared_(shared),
        team_(team),
        warp_(warp),
        lane_(lane),
        slices_(heads_of(args, team)) {}

  __device__ void run() {
    clear();
    if (team_.first_tile == team_.row_tiles) {  // no query sees a key of this rank
      for (int round = 0; round < team_.rounds; round += args_.slice) {
        store();
        slices_.advance(heads_of(args_, team_));
      }
      return;
    }
    RingCursor tiles;
    RingCursor weights;
    for (TileCursor cursor(team_); !cursor.ended(team_);) {
      const int active = active_chunks<Policy>(team_, cursor.tile);
      // From an exchange warp: the tile's factors; its weights are older.
      wait_together(shared_.factor_full[tiles.slot], tiles.parity());
      take_factors(tiles.slot);
#pragma unroll
      for (int own = 0; own < kOwnChunks; ++own) {
        RingCursor chunk = weights;
        chunk.template advance<Policy::kWeightSlots>(own_chunk(own));
        if (own_chunk(own) < active) reduce_chunk(columns_[own], tiles.slot, chunk);
      }
      // To a score group: this warp needs the tile's factors no more.
      release_together(shared_.tile_free[tiles.slot], lane_);
      if (cursor.last(team_)) finish_head(cursor);
      weights.template advance<Policy::kWeightSlots>(active);
      tiles.template advance<Policy::kTileSlots>();
      cursor.advance(team_);
    }
  }

 private:
  static constexpr int kPieces = 4 / kSharers;  // of 16 keys, of the four in a chunk
  static constexpr int kOwnChunks = Policy::kChunks * kSharers / kColumnWarps;  // of a warp
  static constexpr int kSteps = kTileRows / 16;
  static_assert(kPieces == 2, "two chains of products, four groups of eight keys");

  /// Of a tile, the warp's chunk number `own`, and the first of its pieces of it.
  __device__ __forceinline__ int own_chunk(int own) const {
    return kColumnWarps / kSharers * own + warp_ / kSharers;
  }
  __device__ __forceinline__ int first_piece() const { return warp_ % kSharers * kPieces; }

  __device__ void clear() {
    poison_end_ = 0;
#pragma unroll
    for (int own = 0; own < kOwnChunks; ++own)
#pragma unroll
      for (int i = 0; i < kPieces; ++i)
#pragma unroll
        for (int c = 0; c < 2; ++c) columns_[own][i][c] = 0;
  }

  __device__ void finish_head(const TileCursor& cursor) {
    constexpr int kSlots = Policy::kPoisonSlots;
    poison_end_ = max(poison_end_, shared_.poison_end[cursor.round % kSlots]);
    if (slices_.finish_head()) {
      store();
      clear();
      slices_.advance(heads_of(args_, team_));
    }
    if (warp_ != 0 || lane_ != 0) return;
    // Last read half a ring of heads ago, next used half a ring from now.
    shared_.poison_end[(cursor.round + kSlots / 2) % kSlots] = 0;
  }

  /// B operands of a tile: a lane holds the factors of two rows or what they lack.
  __device__ void take_factors(int slot) {
    if constexpr (!kMax) {
      const int lacking = lane_ / 4 % 2 * (kTileRows / 2);
      const auto* words =
          reinterpret_cast<const uint4*>(&shared_.rows[slot][warp_ / kSharers % Policy::kCrewGroups]
                                                      [lacking + factor_word(lane_ % 4)]);
#pragma unroll
      for (int pair = 0; pair < kSteps / 2; ++pair) {
        const uint4 steps = words[pair];
        factors_[2 * pair][0] = steps.x;
        factors_[2 * pair][1] = steps.y;
        factors_[2 * pair + 1][0] = steps.z;
        factors_[2 * pair + 1][1] = steps.w;
      }
    }
  }

  /// Adds a chunk of weights, 64 queries of 64 keys, to this warp's columns.
  __device__ void reduce_chunk(float (&columns)[kPieces][2], int slot, const RingCursor& chunk) {
    // Lanes give rows of 8 x 8 matrices (keys 0, 8; queries 0, 8) that arrive transposed.
    const std::uint32_t row = lane_ / 16 * 8 + lane_ % 8;
    const std::uint32_t address = sm90::shared_address(shared_.weights[chunk.slot]) + row * 128 +
                                  ((2 * first_piece() + lane_ / 8 % 2 ^ lane_ % 8) << 4);
    float part[kPieces][4] = {};  // two chains of products that do not wait for each other
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        std::uint32_t weights[4];
        sm80::ldmatrix_x4_transposed(weights, (address ^ (i << 5)) + step * 16 * 128);
        add(part[i], weights, step, slot);
      }
    }
    constexpr float kRest = 1.0f / (1 << kRestBits);
    // fp32 additions: tensor cores truncate, which over many tiles would add up.
#pragma unroll
    for (int i = 0; i < kPieces; ++i)
#pragma unroll
      for (int r = 0; r < 2; ++r)
        columns[i][r] = kMax ? fmaxf(columns[i][r], part[i][2 * r])
                             : columns[i][r] + fmaf(part[i][2 * r + 1], kRest, part[i][2 * r]);
    // To a score group: the slot may be written again.
    release_together(shared_.weight_free[chunk.slot][chunk.turn % Policy::kTurnBarriers], lane_);
  }

  __device__ void add(float (&part)[4], const std::uint32_t (&weights)[4], int step, int slot) {
    if constexpr (!kMax) {
      sm80::mma_m16n8k16<__half>(part, weights, factors_[step][0], factors_[step][1]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // key lane / 4 + 8 (i mod 2), queries from 8 (i / 2)
        const float2 factors = *reinterpret_cast<const float2*>(
            &shared_.rows[slot][warp_ / kSharers % Policy::kCrewGroups]
                         [16 * step + i / 2 * 8 + lane_ % 4 * 2]);
        const float2 pair = __half22float2(*reinterpret_cast<const __half2*>(&weights[i]));
        const float larger = fmaxf(pair.x * factors.x, pair.y * factors.y);
        part[i % 2 * 2] = fmaxf(part[i % 2 * 2], larger);
      }
    }
  }

  /// To the place of the slice's output head, or of its part of one: [parts, output heads, N]. Of four groups of eight
  /// keys one after the other a lane has one key each, and stores that of the group lane % 4.
  __device__ void store() {
    const int slice = slices_.slice;
    auto place = static_cast<std::uint32_t>(slice);
    if (args_.parts > 1) {
      const int outputs = args_.heads / args_.slice / args_.parts;
      place = static_cast<std::uint32_t>(slice % args_.parts * outputs + slice / args_.parts);
    }
    const bool odd = lane_ % 2 != 0;
    const bool high = lane_ % 4 >= 2;
#pragma unroll
    for (int own = 0; own < kOwnChunks; ++own) {
      const int n =
          team_.tiles.first_key(own_chunk(own)) + 16 * first_piece() + lane_ % 4 * 8 + lane_ / 4;
      float groups[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        groups[i] = columns_[own][i / 2][i % 2];
        if constexpr (kMax) groups[i] = warp_reduce<4>(groups[i], Max{});
      }
      const float whole = high ? (odd ? groups[3] : groups[2]) : (odd ? groups[1] : groups[0]);
      if (n < args_.mask.N)
        store_reduced(args_, place, n, n < poison_end_ ? NAN : whole * args_.factor);
    }
  }

  const ResidentArguments& args_;
  typename Policy::Shared& shared_;
  const Team& team_;
  const int warp_;  // of the column warps
  const int lane_;
  std::uint32_t factors_[kSteps][2];       // B operands of the tile
  float columns_[kOwnChunks][kPieces][2];  // keys lane / 4 and the eighth after it, 16 keys a piece
  int poison_end_;  // of the slice's heads: keys before this one are poisoned
  SliceCursor slices_;
};

}  // namespace attn::colreduce
