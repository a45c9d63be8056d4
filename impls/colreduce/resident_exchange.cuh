// How the CTAs of a team learn the normaliser of a row of which each holds some keys: through words of
// 8 bytes in global memory, which readers poll.
//
// They add fixed-point numbers up, one trip through L2 (RowTotals). Where these would not be exact enough, they
// tell each other packets {log2 of a sum, number of the tile}, which some combine into results for all, two
// trips. A packet is valid when it carries its tile's number, which no other tile of the launch has, and
// packets start at zero: neither order nor fences nor flags are needed.
//
// Every slot belongs to the same exchange warp of all ranks. A warp tells of a tile when it has read all that was
// told of its tile before: hence, once all ranks have told of a tile, none reads an older slot any more. Two
// slots a warp do.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "impls/arch/sm90/global.cuh"
#include "impls/arch/sm90/mbarrier.cuh"
#include "impls/colreduce/resident_policy.cuh"
#include "impls/colreduce/resident_totals.cuh"
#include "impls/common/online_softmax.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {

/// Row factors 2^(reference - lse) are at most 2^-8; as fp16 numbers they carry this power of two.
inline constexpr int kFactorBits = 20;
/// What rounding to fp16 takes off a factor carries this power of two more: a factor of a CTA whose keys all
/// lie far below the row's largest is subnormal, and its weights may be as large as others'.
inline constexpr int kRestBits = 11;

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
  return args.packets + ((team.team * args.ranks + rank) * kExchangeSlots + slot) * kTileRows;
}
__device__ inline std::uint64_t* results_of(const ResidentArguments& args,
                                            const Team& team,
                                            int slot) {
  return args.results + (team.team * kExchangeSlots + slot) * kTileRows;
}

/// The total of place `place` of 64 of a slot, four neighbours after each other (kTotalSpread).
__device__ inline std::uint64_t* total_of(const ResidentArguments& args,
                                          const Team& team,
                                          int slot,
                                          int place) {
  return args.totals + (team.team * kExchangeSlots + slot) * (kTileRows * kTotalSpread) +
         place / 4 * (4 * kTotalSpread) + place % 4;
}

/// Where the factors of rows 2 pair and 2 pair + 1 of a tile lie: words of B operands (k 16, n 8) of its four steps of 16
/// rows, the eight of a lane side by side. What the factors lack follows in the same order.
__device__ __forceinline__ int factor_word(int pair) { return pair % 4 * 8 + pair / 4; }

/// Of rows 2 lane and 2 lane + 1: a sum of 2^x, as a multiple of 2^origin.
struct RowSums {
  float origin[2];
  float sum[2];
};

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
      : args_(args),
        shared_(shared),
        team_(team),
        warp_(warp),
        lane_(lane),
        totals_{total_of(args, team, 2 * warp, lane), total_of(args, team, 2 * warp + 1, lane)},
        expected_(ceilf(log2_approx(static_cast<float>(args.mask.N)))) {}

  __device__ void run() {
    if (team_.first_tile == team_.row_tiles) return;
    TileCursor cursor(team_);
    cursor.advance(team_, warp_);
    RingCursor slots;
    slots.template advance<Policy::kTileSlots>(warp_);
#pragma unroll 1
    while (!cursor.ended(team_)) {
      // From a crew of score groups: weights, references and sums.
      wait_together(shared_.tile_full[slots.slot], slots.parity());
      float references[Policy::kCrewGroups][2];
      const RowSums own = own_sums(slots.slot, references);
      RowSums sums;
      if (!expects() || !add_up(own, sums)) {
        publish(own, cursor);
        combine_rows(cursor);
        sums = poll_results(cursor);
      }
      put_factors(sums, cursor, slots.slot, references);
      expect(sums);
      slots.template advance<Policy::kTileSlots>(kExchangeWarps);
      cursor.advance(team_, kExchangeWarps);
    }
  }

 private:
  /// Where exponents of what is below `max` are measured from.
  __device__ static float origin(float max) { return max == -INFINITY ? 0.0f : max; }

  /// Lanes leave a loop together: after one that they leave one by one ptxas has every shuffle and
  /// barrier of the warp go through slow code for lanes apart.
  __device__ static bool all_lanes(bool condition) { return __all_sync(0xffffffffu, condition); }

  /// This rank's part of the normalisers; hands the rows' references on.
  __device__ RowSums own_sums(int slot, float (&references)[Policy::kCrewGroups][2]) const {
    float sums[Policy::kCrewGroups][2];
#pragma unroll
    for (int member = 0; member < Policy::kCrewGroups; ++member) {
      const uint2 words = *reinterpret_cast<const uint2*>(&shared_.rows[slot][member][2 * lane_]);
      references[member][0] = __uint_as_float(words.x);
      references[member][1] = __uint_as_float(words.y);
      const float2 pair = *reinterpret_cast<const float2*>(&shared_.sums[slot][member][2 * lane_]);
      sums[member][0] = pair.x;
      sums[member][1] = pair.y;
    }
    RowSums own;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = references[0][r];
#pragma unroll
      for (int member = 1; member < Policy::kCrewGroups; ++member)
        largest = fmaxf(largest, references[member][r]);
      own.origin[r] = origin(largest);
      if constexpr (Policy::kCrewGroups == 1) {
        own.sum[r] = sums[0][r];
      } else {
        own.sum[r] = 0;
#pragma unroll
        for (int member = 0; member < Policy::kCrewGroups; ++member)
          own.sum[r] += sums[member][r] * exp2_approx(references[member][r] - own.origin[r]);
      }
    }
    return own;
  }

  /// The same to the team, as log2.
  __device__ void publish(const RowSums& own, const TileCursor& cursor) {
    std::uint64_t packets[2];
#pragma unroll
    for (int r = 0; r < 2; ++r)  // The logarithm of 0 is -inf.
      packets[r] = make_packet(own.origin[r] + log2_approx(own.sum[r]), cursor.number);
    sm90::store_relaxed(packets_of(args_, team_, team_.tiles.rank, cursor.packet_slot) + 2 * lane_,
                        packets);
  }

  /// Whether the last tile's sums let this one's totals be in range.
  __device__ bool expects() const { return expected_ == expected_; }

  /// Of this warp's next tile: the largest sum that this one has, unless sums differ too much.
  __device__ void expect(const RowSums& sums) {
    float log[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) log[r] = sums.origin[r] + log2_approx(sums.sum[r]);
    const float largest = ceilf(warp_max(fmaxf(log[0], log[1])));
    const float least = largest - RowTotals::kRange;  // NaN for infinite ones
    expected_ = all_lanes(log[0] > least && log[1] > least) ? largest : NAN;
  }

  /// The whole from one trip: adds this rank's part and waits for the others'. Whether the totals are in range.
  /// Rows 2 lane lie in the first half of a slot, the others in the second. What a slot held before all ranks
  /// have read, and take off: it is never cleared.
  __device__ bool add_up(const RowSums& own, RowSums& sums) {
    std::uint64_t* totals = turn_ ? totals_[1] : totals_[0];
    constexpr int kRows = 32 * kTotalSpread;
    std::uint64_t parts[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) parts[r] = RowTotals::part(own.sum[r], own.origin[r], expected_);
#pragma unroll
    for (int r = 0; r < 2; ++r) sm90::add_relaxed(totals + kRows * r, parts[r]);
    std::uint64_t total[2];
    do {
#pragma unroll
      for (int r = 0; r < 2; ++r) total[r] = sm90::load_relaxed(totals + kRows * r) - before_[0][r];
    } while (!all_lanes(RowTotals::complete(total[0], team_.members) &&
                        RowTotals::complete(total[1], team_.members)));
    turn_ = !turn_;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const std::uint64_t now = before_[0][r] + total[r];
      before_[0][r] = before_[1][r];
      before_[1][r] = now;
      sums.origin[r] = expected_;
      sums.sum[r] = RowTotals::sum(total[r]);
    }
    return all_lanes(RowTotals::exact(total[0]) && RowTotals::exact(total[1]));
  }

  /// The whole from the team's results.
  __device__ RowSums poll_results(const TileCursor& cursor) {
    const std::uint64_t* results = results_of(args_, team_, cursor.packet_slot) + 2 * lane_;
    std::uint64_t packet[2];
    do {
      sm90::load_relaxed(results, packet);
    } while (
        !all_lanes(packet_is(packet[0], cursor.number) && packet_is(packet[1], cursor.number)));
    RowSums rows;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      rows.origin[r] = packet_value(packet[r]);
      rows.sum[r] = rows.origin[r] == -INFINITY ? 0 : 1;
    }
    return rows;
  }

  /// Combines the rows that this rank answers for and publishes them as results.
  __device__ void combine_rows(const TileCursor& cursor) {
    const int ranks = team_.members;
    if (ranks > 64) {
      combine_with<32, 5>(cursor, ranks);  // up to 132 ranks
    } else if (ranks > 16) {
      combine_with<16, 4>(cursor, ranks);
    } else {
      combine_with<4, 4>(cursor, ranks);
    }
  }

  /// The same with kLanes lanes a row, which read kPackets packets each.
  template <int kLanes, int kPackets>
  __device__ __forceinline__ void combine_with(const TileCursor& cursor, int ranks) {
    const int rows = (kTileRows + ranks - 1) / ranks;
    const int begin = team_.tiles.rank * rows;
    const int end = min(begin + rows, kTileRows);
#pragma unroll 1
    for (int row = begin; row < end; row += 32 / kLanes)
      combine_row<kLanes, kPackets>(cursor, ranks, row + lane_ / kLanes, end);
  }

  template <int kLanes, int kPackets>
  __device__ __forceinline__ void combine_row(const TileCursor& cursor,
                                              int ranks,
                                              int own_row,
                                              int end) {
    const int row = min(own_row, end - 1);  // past the end: the last one again
    const int first = lane_ % kLanes;
    const std::uint64_t* packets = packets_of(args_, team_, first, cursor.packet_slot) + row;
    float parts[kPackets];
    bool complete = false;
    do {
      complete = true;
      std::uint64_t packet[kPackets];
#pragma unroll
      for (int i = 0; i < kPackets; ++i)
        packet[i] = first + kLanes * i < ranks
                        ? sm90::load_relaxed(packets + i * kLanes * (kExchangeSlots * kTileRows))
                        : make_packet(-INFINITY, cursor.number);
#pragma unroll
      for (int i = 0; i < kPackets; ++i) {
        complete = complete && packet_is(packet[i], cursor.number);
        parts[i] = packet_value(packet[i]);
      }
    } while (!all_lanes(complete));
    float largest = parts[0];
#pragma unroll
    for (int i = 1; i < kPackets; ++i) largest = fmaxf(largest, parts[i]);
    const float max = warp_reduce<kLanes>(largest, Max{});
    const float from = origin(max);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPackets; ++i) sum += exp2_approx(parts[i] - from);
    sum = warp_reduce<kLanes>(sum, Sum{});
    if (first == 0 && own_row < end)
      sm90::store_relaxed(
          results_of(args_, team_, cursor.packet_slot) + row,
          make_packet(sum == 0 ? -INFINITY : max + log2_approx(sum), cursor.number));
    __syncwarp();
  }

  /// The largest of the warp's numbers, as integers in the same order: one instruction for ten. A
  /// NaN may be the result or not.
  __device__ static float warp_max(float value) {
    const int bits = __float_as_int(value);
    const int ordered = bits ^ (bits >> 31 & 0x7fffffff);
    const int largest = __reduce_max_sync(0xffffffffu, ordered);
    return __int_as_float(largest ^ (largest >> 31 & 0x7fffffff));
  }

  /// Row factors 2^(reference - lse) in place of the references; to the column warps. 0 for rows
  /// without weight and rows past the last query.
  __device__ void put_factors(const RowSums& rows,
                              const TileCursor& cursor,
                              int slot,
                              const float (&references)[Policy::kCrewGroups][2]) {
    const int row = cursor.tile * kTileRows + 2 * lane_;
    bool weighs[2];
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      weighs[r] = row + r < args_.mask.M && rows.sum[r] != 0;  // true for NaN
      inverse[r] = reciprocal_approx(rows.sum[r]);
    }
    bool poisoned[2] = {false, false};
#pragma unroll
    for (int member = 0; member < Policy::kCrewGroups; ++member) {
      float factors[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float factor =
            exp2_approx(references[member][r] - rows.origin[r] + kFactorBits) * inverse[r];
        poisoned[r] = poisoned[r] || (weighs[r] && factor != factor);
        factors[r] = weighs[r] ? fmaxf(factor, 0.0f) : 0.0f;  // 0 for NaN
      }
      // A lane overwrites references of others, who have read them: the warp has voted since.
      std::uint32_t* words = shared_.rows[slot][member];
      if constexpr (kMax) {
        *reinterpret_cast<float2*>(words + 2 * lane_) = make_float2(factors[0], factors[1]);
      } else {
        const uint2 split = split_factors(factors);
        words[factor_word(lane_)] = split.x;
        words[kTileRows / 2 + factor_word(lane_)] = split.y;
      }
    }
    if (__any_sync(0xffffffffu, poisoned[0] || poisoned[1])) poison_keys(cursor, row, poisoned);
    release_together(shared_.factor_full[slot], lane_);
  }

  /// A poisoned row: every key that it sees becomes NaN.
  __device__ void poison_keys(const TileCursor& cursor, int row, const bool (&poisoned)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r)
      if (poisoned[r])
        atomicMax(&shared_.poison_end[cursor.round % Policy::kPoisonSlots],
                  static_cast<int>(args_.mask.key_end(row + r)));
    __syncwarp();
  }
  /// Both factors as fp16 numbers, and what they lack, times 2^kRestBits.
  __device__ static uint2 split_factors(const float (&factors)[2]) {
    const __half2 high = __floats2half2_rn(factors[0], factors[1]);
    const float2 taken = __half22float2(high);
    constexpr float kRest = 1 << kRestBits;
    const __half2 rest =
        __floats2half2_rn((factors[0] - taken.x) * kRest, (factors[1] - taken.y) * kRest);
    return make_uint2(*reinterpret_cast<const std::uint32_t*>(&high),
                      *reinterpret_cast<const std::uint32_t*>(&rest));
  }

  const ResidentArguments& args_;
  typename Policy::Shared& shared_;
  const Team& team_;
  const int warp_;  // of the exchange warps
  const int lane_;
  std::uint64_t* const totals_[2];   // this warp's slots in turn, of row 2 lane
  std::uint64_t before_[2][2] = {};  // what they hold of older tiles, the next one's first
  bool turn_ = false;
  float expected_;  // log2 of the next tile's largest sum, the same for all ranks; NaN: unknown
};

}  // namespace attn::colreduce
