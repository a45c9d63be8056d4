// The score groups of the row-resident kernel: scores of a query tile against the CTA's chunks of
// keys, their exponentials into shared memory, the tile's part of each row's normaliser to the
// team.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "impls/arch/sm80/lane.cuh"
#include "impls/arch/sm80/ldmatrix.cuh"
#include "impls/arch/sm90/stmatrix.cuh"
#include "impls/arch/sm90/wgmma.cuh"
#include "impls/colreduce/resident_exchange.cuh"
#include "impls/colreduce/resident_policy.cuh"
#include "impls/common/warp_reduce.cuh"

namespace attn::colreduce {

/// A row's largest exponential is 2^kHeadroom or, where a later chunk has larger scores, at most
/// kLargestWeight: weights 2^-22 below the largest still have all bits of an fp16 number.
inline constexpr float kHeadroom = 8;
inline constexpr float kLargestWeight = 60000;
/// Less than the log2 of any weight that counts.
inline constexpr float kNoScore = -1e30f;

template <class Element, class Policy>
class ScoreGroup {
 public:
  __device__ ScoreGroup(const ResidentArguments& args,
                        typename Policy::Shared& shared,
                        const Team& team,
                        int group,
                        int thread)
      : args_(args),
        shared_(shared),
        team_(team),
        crew_(group / Policy::kCrewGroups),
        member_(group % Policy::kCrewGroups),
        warp_(__shfl_sync(0xffffffffu, thread / 32, 0)),
        lane_offset_(fragment_offset(warp_, thread % 32)) {}

  __device__ __forceinline__ void run() {
    if (team_.first_tile == team_.row_tiles) return;
    TileCursor cursor(team_);
    int by = crew_;
#pragma unroll 1
    while (true) {
      move(cursor, by);
      by = Policy::kCrews;
      if (cursor.ended(team_)) break;
      take_tile(cursor);
    }
  }

 private:
  static constexpr int kSteps = Policy::kD / 16;

  /// Of this thread in its warp: read anew where it is needed, scores take the registers.
  __device__ static int lane() { return sm80::lane_id(); }

  /// Of ldmatrix and stmatrix in 64 swizzled rows of 128 bytes.
  __device__ static std::uint32_t fragment_offset(int warp, int lane) {
    return (16 * warp + lane % 16) * 128 + ((lane / 16 ^ lane % 8) << 4);
  }

  /// Goes `by` tiles on, past the weights of the tiles between and the heads' keys.
  __device__ __forceinline__ void move(TileCursor& cursor, int by) {
    const int round = cursor.round;
    int chunks = 0;
    if constexpr (!Policy::kMasked) {
      chunks = by * team_.used_chunks;
      cursor.advance(team_, by);
    } else {
      for (int i = 0; i < by; ++i) {
        chunks += active_chunks<Policy>(team_, cursor.tile);
        cursor.advance(team_);
      }
    }
    weights_.template advance<Policy::kWeightSlots, Policy::kCrews * Policy::kChunks>(chunks);
    tiles_.template advance<Policy::kTileSlots>(by);
    if constexpr (!Policy::kStreamKeys) {
      if (cursor.round != round) {
#pragma unroll 1
        for (int passed = round; passed < min(cursor.round, team_.rounds); ++passed)
          pass_keys(passed);
      }
    }
  }

  /// Waits for and gives back those chunks of a head that this group has not taken. Every group
  /// passes every chunk of every head, so that no barrier is a phase ahead of one.
  __device__ __forceinline__ void pass_keys(int round) {
#pragma unroll 1
    for (int j = released_ ? released_ : member_; j < team_.used_chunks; j += Policy::kCrewGroups) {
      wait_together(shared_.key_full[j], round & 1);
      release_together(shared_.key_free[j], lane());
    }
    released_ = 0;
  }

  __device__ __forceinline__ void take_tile(const TileCursor& cursor) {
    const int active = active_chunks<Policy>(team_, cursor.tile);
    tile_row_ = cursor.tile * kTileRows;
    // Chunks lie in the order of their keys: the last one tells whether some row misses a key.
    const bool hides = Policy::kMasked && team_.tiles.first_key(active - 1) >=
                                              team_.whole.at(cursor.tile) * kChunkKeys;
    // The group's first and last tile of the head: keys may not have arrived, and are given back.
    const bool fresh = cursor.tile < team_.first_tile + Policy::kCrews;
    const bool last = cursor.tile + Policy::kCrews >= team_.row_tiles;
    load_fragments();
    // From the column warps: they have finished the tile that was here, its rows and its weights.
    wait_together(shared_.tile_free[tiles_.slot], tiles_.parity() ^ 1);
    reference_[0] = reference_[1] = -INFINITY;
    sum_[0] = sum_[1] = 0;
    RingCursor weights = weights_;
    weights.template advance<Policy::kWeightSlots>(member_);
    int j = member_;
#pragma unroll 1
    for (; j < active; j += Policy::kCrewGroups) {
      const int keys = key_slot(j);
      // Under a mask the first tile of a head need not see all chunks.
      if (fresh || Policy::kMasked || Policy::kStreamKeys)
        wait_together(shared_.key_full[keys], key_phase(j, cursor.round));
      float scores[32];
      issue(scores, keys);
      // To the loader, before room for weights, which may take longer.
      if (last || Policy::kStreamKeys) {
        sm90::wgmma_wait<0>();
        release_together(shared_.key_free[keys], lane());
      }
      // From a column warp: it has read the weights that were where these go.
      wait_together(shared_.weight_free[weights.slot][weights.turn % Policy::kTurnBarriers],
                    weights.turn / Policy::kTurnBarriers & 1);
      sm90::wgmma_wait<0>();
      sm90::pin_registers(scores);
      if (Policy::kMasked && hides) hide(scores, team_.tiles.first_key(j));
      weigh(scores, j, weights.slot);
      weights.template advance<Policy::kWeightSlots>(Policy::kCrewGroups);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) sm90::pin_registers(queries_[step]);
    if (last) released_ = j;
    own_chunks_ += (active + Policy::kCrewGroups - 1 - member_) / Policy::kCrewGroups;
    publish();
  }

  /// The group's tile of queries as A operands, and the tile's buffer back to the loader.
  __device__ __forceinline__ void load_fragments() {
    wait_together(shared_.query_full[crew_], own_tiles_ & 1);
    ++own_tiles_;
    std::uint32_t offset[1] = {lane_offset_};
    sm90::pin_registers(offset);  // else the sum is kept, and spilled, from tile to tile
    const std::uint32_t address =
        sm90::shared_address(shared_.queries[crew_ % Policy::kQuerySlots]) + offset[0];
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
      sm80::ldmatrix_x4(queries_[step], (address ^ (step % 4 << 5)) + step / 4 * Policy::kBoxBytes);
    give_back_queries();
    if (args_.negate) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i) queries_[step][i] ^= 0x80008000u;
    }
  }

  /// The loader may overwrite the queries. The arrival waits for the fragments, because it takes a register
  /// of each: without that the copy engine now and then overtook the matrix loads.
  __device__ __forceinline__ void give_back_queries() {
    __syncwarp();
    const int lane = this->lane();
    if (lane == 0) {
      std::uint32_t all = 0;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) all ^= queries_[step][0];
      sm90::mbarrier_arrive(sm90::shared_address(&shared_.query_free[crew_ % Policy::kQuerySlots]) +
                            (all & args_.zero));
    }
    __syncwarp();
  }

  /// Where the group's chunk j lies, and the parity of its arrival.
  __device__ __forceinline__ int key_slot(int j) const {
    if constexpr (!Policy::kStreamKeys) return j;
    return member_ * Policy::kGroupKeySlots +
           (own_chunks_ + j / Policy::kCrewGroups) % Policy::kGroupKeySlots;
  }
  __device__ __forceinline__ std::uint32_t key_phase(int j, int round) const {
    if constexpr (!Policy::kStreamKeys) return round & 1;
    return (own_chunks_ + j / Policy::kCrewGroups) / Policy::kGroupKeySlots & 1;
  }

  __device__ __forceinline__ void issue(float (&scores)[32], int slot) {
    const std::uint64_t descriptor =
        sm90::wgmma_descriptor(sm90::shared_address(shared_.keys[slot]));
    sm90::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
      sm90::wgmma_registers<Element>(
          scores, queries_[step],
          descriptor + step % 4 * sm90::kDescriptorStep + step / 4 * (Policy::kBoxBytes >> 4),
          step > 0);
    sm90::wgmma_commit();
  }

  /// Scores of chunk j to weights in a slot.
  __device__ __forceinline__ void weigh(const float (&scores)[32], int j, int slot) {
    if (j < Policy::kCrewGroups) raise_reference<16>(scores);
    float part[2];
    park(scores, slot, false, part);
    // Exponents are measured from the largest score of the first few keys, until others are so much
    // larger that a weight might overflow.
    const bool fits = part[0] <= kLargestWeight && part[1] <= kLargestWeight;  // false for NaN
    if (__builtin_expect(__any_sync(0xffffffffu, !fits), 0)) {
      float factor[2] = {reference_[0], reference_[1]};
      raise_reference<kChunkKeys>(scores);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        factor[r] = reference_[r] == -INFINITY ? 1.0f : exp2_approx(factor[r] - reference_[r]);
        sum_[r] *= factor[r];
      }
#pragma unroll 1
      for (int back = Policy::kCrewGroups; back <= j; back += Policy::kCrewGroups)
        scale_weights(slot >= back ? slot - back : slot - back + Policy::kWeightSlots, factor);
      park(scores, slot, true, part);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) sum_[r] += part[r];
  }

  /// Gives the scores that a row does not see weight 0; a row that sees none of the chunk gets a reference
  /// below every score's.
  __device__ __forceinline__ void hide(float (&scores)[32], int first_key) {
    const int lane = this->lane();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = tile_row_ + 16 * warp_ + lane / 4 + 8 * r;
      const int end = static_cast<int>(args_.mask.key_end(row)) - first_key;
      if (end <= 0) reference_[r] = fmaxf(reference_[r], kNoScore);
      const int visible = end - lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int c = 0; c < 2; ++c)
          if (8 * i + c >= visible) scores[4 * i + 2 * r + c] = -INFINITY;
    }
  }

  /// Moves the rows' references up to what the scores of their first kKeys keys ask for.
  template <int kKeys>
  __device__ __forceinline__ void raise_reference(const float (&scores)[32]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = scores[2 * r];
#pragma unroll
      for (int i = 1; i < kKeys / 4; ++i)
        largest = fmaxf(largest, scores[i / 2 * 4 + 2 * r + i % 2]);
      largest = warp_reduce<4>(largest, Max{});
      reference_[r] = fmaxf(reference_[r], largest * args_.scale_log2 - kHeadroom);
    }
  }

  /// Lanes give the rows of the four 8 x 8 matrices (rows 0, 8; keys 0, 8) of a 16 x 16 piece of
  /// weights. Piece i of four lies at this address with bits 5 and 6 changed by i.
  __device__ __forceinline__ std::uint32_t weight_address(int slot) const {
    return sm90::shared_address(shared_.weights[slot]) + lane_offset_;
  }

  /// Multiplies this warp's rows of a chunk of weights. In fp32: a factor may be small, and as an fp16 number
  /// coarse.
  __device__ __forceinline__ void scale_weights(int slot, const float (&factor)[2]) {
    const std::uint32_t address = weight_address(slot);
#pragma unroll
    for (int piece = 0; piece < 4; ++piece) {
      std::uint32_t packed[4];
      sm80::ldmatrix_x4(packed, address ^ (piece << 5));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 weights = __half22float2(*reinterpret_cast<const __half2*>(&packed[i]));
        packed[i] = pack(weights.x * factor[i % 2], weights.y * factor[i % 2]);
      }
      sm90::stmatrix_x4(address ^ (piece << 5), packed);
    }
  }

  /// 2^(score - reference) of a chunk, rounded to fp16, into shared memory; `part` gets the sums of
  /// what this thread computed, before rounding. `raised`: the references have seen these scores.
  __device__ __forceinline__ void park(const float (&scores)[32],
                                       int slot,
                                       bool raised,
                                       float (&part)[2]) {
    std::uint32_t start[1] = {weight_address(slot)};
    sm90::pin_registers(start);  // else what follows from it is kept, and spilled, for another call
    const std::uint32_t address = start[0];
    float origin[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // A row without a key so far has weights 0 once that is certain; before, they come out
      // infinite or NaN and do not fit.
      origin[r] = raised && reference_[r] == -INFINITY ? 0.0f : reference_[r];
      part[r] = 0;
    }
#pragma unroll
    for (int piece = 0; piece < 4; ++piece) {
      std::uint32_t packed[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {  // 8 columns: 2 piece + i / 2; row: i mod 2
        const int r = i % 2;
        const float* pair = scores + 4 * (2 * piece + i / 2) + 2 * r;
        const float low = exp2_approx(fmaf(pair[0], args_.scale_log2, -origin[r]));
        const float high = exp2_approx(fmaf(pair[1], args_.scale_log2, -origin[r]));
        part[r] += low;
        part[r] += high;
        packed[i] = pack(low, high);
      }
      sm90::stmatrix_x4(address ^ (piece << 5), packed);
    }
  }

  __device__ static std::uint32_t pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }

  /// The rows' references and sums to an exchange warp.
  __device__ __forceinline__ void publish() {
    const int lane = this->lane();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = warp_reduce<4>(sum_[r], Sum{});
      const int row = 16 * warp_ + lane / 4 + 8 * r;
      if (lane % 4 == 0) {
        shared_.sums[tiles_.slot][member_][row] = sum;
        shared_.rows[tiles_.slot][member_][row] = __float_as_uint(reference_[r]);
      }
    }
    release_together(shared_.tile_full[tiles_.slot], lane);
  }

  const ResidentArguments& args_;
  typename Policy::Shared& shared_;
  const Team& team_;
  const int crew_;
  const int member_;                 // which chunks of a tile this group takes, in turn
  const int warp_;                   // of the group, the same for all lanes
  const std::uint32_t lane_offset_;  // of ldmatrix and stmatrix in 64 swizzled rows of 128 bytes

  std::uint32_t queries_[kSteps][4];  // A operands
  float reference_[2];                // of this lane's two rows, log2
  float sum_[2];                      // of this thread's weights
  RingCursor weights_{
      .turn = ~0u};  // of the tile's first chunk, a turn behind: it waits for the one before
  RingCursor tiles_;
  int tile_row_ = 0;  // first row of the tile
  int released_ = 0;  // chunks from here on the group's last tile of the head has not given back
  std::uint32_t own_chunks_ = 0;  // that this group has taken before
  std::uint32_t own_tiles_ = 0;
};

}  // namespace attn::colreduce
