// How the CTAs of a team learn the normaliser of a row of which each holds some keys: packets of 8
// bytes in global memory, {log2 of a sum, number of the tile}, which readers poll.
//
// A packet is valid when it carries its tile's number, which no other tile of the launch has, and
// packets start at zero: neither order nor fences nor flags are needed. The slots are a ring. A
// rank is at most kMostTileSlots tiles ahead of its own column warps, which have then seen the
// packets of all ranks: hence no rank still reads a slot that is 2 kMostTileSlots + 1 tiles old.
// That holds as long as the same ranks take part. Where a mask keeps late keys' ranks from the
// first tiles of a head, heads take the two halves of the ring in turn, and a rank begins a head
// only when all have finished the last but one.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "impls/arch/sm90/global.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/colreduce/resident_policy.cuh"
#include "impls/common/online_softmax.cuh"

namespace attn::colreduce {

/// Row factors 2^(reference - lse) are at most 2^-8; as fp16 numbers they carry this power of two.
inline constexpr float kFactorScale = 1 << 20;

/// Up to this many ranks everybody reads everybody's packets. With more, each rank combines some of
/// the rows and all read the results: a second trip through L2, but traffic that does not grow.
inline constexpr int kDirectRanks = 16;
static_assert(4 * kDirectRanks >= kTileRows, "a rank combines at most four rows");

__device__ inline std::uint64_t make_packet(float value, std::uint32_t number) {
  return std::uint64_t{number} << 32 | __float_as_uint(value);
}
__device__ inline bool packet_is(std::uint64_t packet, std::uint32_t number) {
  return static_cast<std::uint32_t>(packet >> 32) == number;
}
__device__ inline float packet_value(std::uint64_t packet) {
  return __uint_as_float(static_cast<std::uint32_t>(packet));
}

/// The packets of rank `rank` for a slot, [64] rows.
__device__ inline std::uint64_t* packets_of(const ResidentArguments& args,
                                            const Team& team,
                                            int rank,
                                            int slot) {
  return args.packets + ((team.team * args.ranks + rank) * kPacketSlots + slot) * kTileRows;
}
__device__ inline std::uint64_t* results_of(const ResidentArguments& args,
                                            const Team& team,
                                            int slot) {
  return args.results + (team.team * kPacketSlots + slot) * kTileRows;
}

/// Waits until every rank that has tiles at all has finished `heads` heads. A whole warp calls it.
__device__ inline void wait_for_heads(const ResidentArguments& args,
                                      const Team& team,
                                      int heads,
                                      int lane) {
  const int ranks = team.tiles.participants(team.tiles.visible_chunks(team.row_tiles - 1));
  for (int rank = lane; rank < ranks; rank += 32) {
    while (sm90::load_acquire(args.done + team.team * args.ranks + rank) <
           static_cast<std::uint64_t>(heads)) {
    }
  }
  __syncwarp();
}

/// The exchange warps of the row-resident kernel take tiles in turn: tell the team this rank's part
/// of each row's normaliser, learn the whole, give the column warps the rows' factors.
template <class Policy, bool kMax>
class ExchangeWarp {
 public:
  __device__ ExchangeWarp(const ResidentArguments& args,
                          typename Policy::Shared& shared,
                          const Team& team,
                          int warp,
                          int lane)
      : args_(args), shared_(shared), team_(team), warp_(warp), lane_(lane) {}

  __device__ void run() {
    if (team_.first_tile == team_.row_tiles) return;
    RingCursor slots;
    int turn = 0;      // the warp that takes the next tile
    int admitted = 1;  // heads up to this one may be begun: the ring's halves start empty
    for (Cursor cursor(team_); cursor.head < args_.heads; cursor.advance(team_, args_.teams)) {
      // From a pair of score groups: weights, references and sums. Every warp sees every phase.
      wait_together(shared_.tile_full[slots.slot], slots.phase);
      if (turn == warp_) {
        const int ranks = active_ranks<Policy>(team_, cursor.tile);
        // Before a rank begins a head in a half of the ring, all must be done with the last one
        // there.
        if (cursor.uneven && cursor.round > admitted) {
          wait_for_heads(args_, team_, cursor.round - 1, lane_);
          admitted = cursor.round;
        }
        publish(cursor, slots.slot);
        float lse[2];
        if (ranks <= kDirectRanks) {
          poll_packets(cursor, ranks, lse);
        } else {
          combine_rows(cursor, ranks);
          poll_results(cursor, lse);
        }
        put_factors(lse, cursor, slots.slot);
      }
      turn = turn + 1 == Policy::kExchangeWarps ? 0 : turn + 1;
      slots.template advance<Policy::kTileSlots>();
    }
  }

 private:
  using Cursor = TileCursor<Policy::kMasked>;

  /// This rank's part of the normalisers of rows lane and lane + 32, as log2.
  __device__ void publish(const Cursor& cursor, int slot) {
    std::uint64_t* packets = packets_of(args_, team_, team_.tiles.rank, cursor.packet_slot) + lane_;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float reference[kPair];
      float sum[kPair];
#pragma unroll
      for (int half = 0; half < kPair; ++half) {
        reference[half] = __uint_as_float(shared_.rows[slot][half][lane_ + 32 * r]);
        sum[half] = shared_.sums[slot][half][lane_ + 32 * r];
      }
      const float larger = fmaxf(reference[0], reference[1]);
      const float origin = larger == -INFINITY ? 0.0f : larger;
      const float whole =
          sum[0] * exp2_approx(reference[0] - origin) + sum[1] * exp2_approx(reference[1] - origin);
      sm90::store_relaxed(
          packets + 32 * r,
          make_packet(whole == 0 ? -INFINITY : origin + log2_approx(whole), cursor.number));
    }
  }

  /// log2 of the normalisers of rows lane and lane + 32 from the packets of all ranks.
  __device__ void poll_packets(const Cursor& cursor, int ranks, float (&lse)[2]) {
    constexpr int kBatch = 4;
    OnlineSoftmax sum[2];
    for (int first = 0; first < ranks; first += kBatch) {
      const std::uint64_t* packets = packets_of(args_, team_, first, cursor.packet_slot) + lane_;
      std::uint64_t packet[2][kBatch];
      bool complete = false;
      while (!complete) {
        complete = true;
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
#pragma unroll
          for (int r = 0; r < 2; ++r)
            if (first + i < ranks)
              packet[r][i] = sm90::load_relaxed(packets + i * kPacketSlots * kTileRows + 32 * r);
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
#pragma unroll
          for (int r = 0; r < 2; ++r)
            if (first + i < ranks) complete = complete && packet_is(packet[r][i], cursor.number);
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float parts[kBatch];
#pragma unroll
        for (int i = 0; i < kBatch; ++i)
          parts[i] = first + i < ranks ? packet_value(packet[r][i]) : -INFINITY;
        sum[r].absorb(parts);
      }
    }
    __syncwarp();
#pragma unroll
    for (int r = 0; r < 2; ++r) lse[r] = sum[r].lse_log2();
  }

  /// The same from the team's results.
  __device__ void poll_results(const Cursor& cursor, float (&lse)[2]) {
    const std::uint64_t* results = results_of(args_, team_, cursor.packet_slot) + lane_;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      std::uint64_t packet;
      do {
        packet = sm90::load_relaxed(results + 32 * r);
      } while (!packet_is(packet, cursor.number));
      lse[r] = packet_value(packet);
    }
    __syncwarp();
  }

  /// Combines the rows that this rank answers for and publishes them as results: one row by 32
  /// lanes, two by 16 each or up to four by 8 each.
  __device__ void combine_rows(const Cursor& cursor, int ranks) {
    const int rows = (kTileRows + ranks - 1) / ranks;
    const int begin = team_.tiles.rank * rows;
    const int end = min(begin + rows, kTileRows);
    if (begin >= end) return;
    const int lanes = rows == 1 ? 32 : rows == 2 ? 16 : 8;  // of a row
    const int row = begin + lane_ / lanes;
    constexpr int kMostPackets = 5;  // of a lane: 132 ranks by 32 lanes, 63 by 16, 31 by 8
    const int first = row < end ? lane_ % lanes : ranks;
    const std::uint64_t* packets = packets_of(args_, team_, first, cursor.packet_slot) + row;
    std::uint64_t packet[kMostPackets];
    bool complete = false;
    while (!complete) {
      complete = true;
#pragma unroll
      for (int i = 0; i < kMostPackets; ++i)
        if (first + lanes * i < ranks)
          packet[i] = sm90::load_relaxed(packets + i * lanes * (kPacketSlots * kTileRows));
#pragma unroll
      for (int i = 0; i < kMostPackets; ++i)
        if (first + lanes * i < ranks) complete = complete && packet_is(packet[i], cursor.number);
    }
    float parts[kMostPackets];
#pragma unroll
    for (int i = 0; i < kMostPackets; ++i)
      parts[i] = first + lanes * i < ranks ? packet_value(packet[i]) : -INFINITY;
    __syncwarp();
    OnlineSoftmax sum;
    sum.absorb(parts);
    for (int distance = lanes / 2; distance > 0; distance /= 2) sum.merge_lane(distance);
    if (lane_ % lanes == 0 && row < end)
      sm90::store_relaxed(results_of(args_, team_, cursor.packet_slot) + row,
                          make_packet(sum.lse_log2(), cursor.number));
    __syncwarp();
  }

  /// Row factors 2^(reference - lse) in place of the references; to the column warps.
  __device__ void put_factors(const float (&lse)[2], const Cursor& cursor, int slot) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ + 32 * r;
      const int m = cursor.tile * kTileRows + row;
#pragma unroll
      for (int half = 0; half < kPair; ++half) {
        const float reference = __uint_as_float(shared_.rows[slot][half][row]);
        float factor = m < args_.mask.M ? exp2_approx(reference - lse[r]) : 0.0f;
        if (factor != factor) {  // a poisoned row: every key that it sees becomes NaN
          atomicMax(&shared_.poison_end[cursor.round % Policy::kPoisonSlots],
                    static_cast<int>(args_.mask.key_end(m)));
          factor = 0;
        }
        shared_.rows[slot][half][row] = kMax ? __float_as_uint(factor) : split_factor(factor);
      }
    }
    release_together(shared_.factor_full[slot], lane_);
  }

  /// A factor as the sum of two fp16 numbers, the high part in the low half.
  __device__ static std::uint32_t split_factor(float factor) {
    const float scaled = factor * kFactorScale;
    const __half high = __float2half_rn(scaled);
    const __half2 parts = __halves2half2(high, __float2half_rn(scaled - __half2float(high)));
    return *reinterpret_cast<const std::uint32_t*>(&parts);
  }

  const ResidentArguments& args_;
  typename Policy::Shared& shared_;
  const Team& team_;
  const int warp_;  // of the exchange warps
  const int lane_;
};

}  // namespace attn::colreduce
