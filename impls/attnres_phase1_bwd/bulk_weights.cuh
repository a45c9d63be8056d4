// Weights and gradients of the logits of a token: a warp takes as many queries as it has lanes for.
#pragma once

#include <cmath>
#include <cstdint>

#include "impls/attnres/depth_products.cuh"
#include "impls/attnres/rank_exchange.cuh"
#include "impls/attnres_phase1_bwd/bulk_sm90.h"
#include "impls/common/warp_reduce.cuh"

namespace attn::attnres_phase1_bwd {
namespace bulk {

/// Combines the values of the lanes that differ in bits [from, to) of their number.
template <class Combine>
__device__ inline float over_lanes(float value, int from, int to, Combine combine) {
  for (int distance = from; distance < to; distance *= 2)
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

/// One pass of a token. Lane l has sources l mod width and, with kRounds = 2, the 32nd after it, of the
/// query l / width of the pass.
template <int kQueries, int kRounds>
class WeightPass {
 public:
  __device__ WeightPass(const BulkArguments& p, char* memory, int warps, int pass, int lane)
      : p_(p), memory_(memory), warps_(warps), pass_(pass), lane_(lane) {}

  /// Weights and norms of set number mod 2, where `number` counts the CTA's tokens.
  __device__ void find(std::int64_t token, int number) const {
    const int s = query(lane_);
    const int width = 1 << p_.lanes.width_log2;
    // Loaded first, so that it arrives during the sums.
    const float dlse = p_.dlse && s < p_.S ? p_.dlse[s * p_.tokens + token] : 0.0f;
    float sums[3][kRounds];  // products of the query, of its dout, squares
    add_sums(number, sums);

    float r[kRounds];
    float logit[kRounds];
    bool exists[kRounds];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      exists[i] = s < p_.S && source(lane_, i) < p_.N;
      r[i] = 1.0f / sqrtf(sums[2][i] / static_cast<float>(p_.D) + p_.eps);
      logit[i] = sums[0][i] * r[i];
      if (exists[i]) largest = fmaxf(largest, logit[i]);
    }
    largest = over_lanes(largest, 1, width, Max{});
    float weight[kRounds];
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      weight[i] = exists[i] ? expf(logit[i] - largest) : 0.0f;
      sum += weight[i];
    }
    const float scale = 1.0f / over_lanes(sum, 1, width, Sum{});
    float mean = 0;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      weight[i] = exists[i] ? weight[i] * scale : 0.0f;
      mean += weight[i] * sums[1][i];
    }
    mean = over_lanes(mean, 1, width, Sum{});
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      // Of one source the output is the source: no rounding may leave its logit a gradient.
      const float centred = p_.N == 1 ? 0.0f : sums[1][i] - mean;
      const float g = weight[i] * (centred + dlse);
      const float back = g * logit[i] * r[i] * r[i] / static_cast<float>(p_.D);
      store(number % 2, i, exists[i], weight[i], g * r[i], over_lanes(back, width, 32, Sum{}));
    }
  }

 private:
  __device__ int query(int lane) const {
    return pass_ * p_.lanes.queries() + (lane >> p_.lanes.width_log2);
  }
  __device__ int source(int lane, int round) const {
    return (lane & ((1 << p_.lanes.width_log2) - 1)) + 32 * round;
  }

  /// Sum `kind` of the CTA, for a lane's source of this round: its warps' in order; 0 for none.
  __device__ float add_warps(int kind, int lane, int round) const {
    const int s = query(lane);
    const int n = source(lane, round);
    if (s >= p_.S || n >= p_.N) return 0;
    const int row = kind == 0 ? s : kind == 1 ? p_.S + 1 + s : p_.S;
    const char* from = memory_ + p_.memory.sums + 4 * (row * attnres::product_pitch(p_.N) + n);
    float sum = 0;
#pragma unroll 4
    for (int warp = 0; warp < warps_; ++warp, from += p_.memory.warp_sums)
      sum += *reinterpret_cast<const float*>(from);
    return sum;
  }

  /// The same of the cluster.
  __device__ void add_sums(int number, float (&sums)[3][kRounds]) const {
    constexpr int kLanes = 32 * kRounds;
    if (p_.ranks == 1) {
#pragma unroll
      for (int i = 0; i < 3 * kRounds; ++i)
        sums[i / kRounds][i % kRounds] = add_warps(i / kRounds, lane_, i % kRounds);
      return;
    }
    auto* barriers = reinterpret_cast<std::uint64_t*>(memory_ + p_.memory.barriers) + p_.stages;
    float* slots =
        reinterpret_cast<float*>(memory_ + p_.memory.exchange) + pass_ * 2 * p_.ranks * kPassSums;
    const attnres::RankExchange exchange(
        slots, *reinterpret_cast<std::uint64_t(*)[2]>(barriers + 2 * pass_), p_.ranks, 3 * kLanes,
        number);
    exchange.send({.index = 0, .warps = 1, .warp = 0, .lane = lane_, .thread = lane_},
                  [&](int i) { return add_warps(i / kLanes, i % 32, i % kLanes / 32); });
    exchange.wait();
#pragma unroll
    for (int i = 0; i < 3 * kRounds; ++i)
      sums[i / kRounds][i % kRounds] = exchange.total(32 * i + lane_);
  }

  /// Places of a source that does not exist keep what they have: nobody reads them.
  __device__ void store(int set, int round, bool exists, float weight, float gr, float back) const {
    const int n = source(lane_, round);
    if (n >= p_.N) return;
    const int tile = p_.tiles.tile_of(n);
    const int place = n - p_.tiles.first(tile);
    if (exists) {
      float* to = reinterpret_cast<float*>(memory_ + p_.memory.weights) +
                  ((set * p_.tiles.count + tile) * kQueries + query(lane_)) * 2 * kTileSources;
      to[place] = weight;
      to[kTileSources + place] = gr;
    }
    const int passes = p_.lanes.passes(p_.S);
    if (lane_ >> p_.lanes.width_log2 == 0)
      reinterpret_cast<float*>(
          memory_ +
          p_.memory
              .norms)[((set * passes + pass_) * p_.tiles.count + tile) * kTileSources + place] =
          back;
  }

  const BulkArguments& p_;
  char* memory_;
  int warps_, pass_, lane_;
};

/// All passes of a token, by its warps in turn. The CTA's sums are there.
template <int kQueries>
__device__ inline void find_weights(const BulkArguments& p,
                                    char* memory,
                                    int warps,
                                    int warp,
                                    int lane,
                                    std::int64_t token,
                                    int number) {
  for (int pass = warp; pass < p.lanes.passes(p.S); pass += warps) {
    if (p.N > 32) {
      WeightPass<kQueries, 2>(p, memory, warps, pass, lane).find(token, number);
    } else {
      WeightPass<kQueries, 1>(p, memory, warps, pass, lane).find(token, number);
    }
  }
}

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
