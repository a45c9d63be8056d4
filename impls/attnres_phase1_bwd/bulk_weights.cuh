// Weights and gradients of the logits of a token: a warp takes as many queries as it has lanes for.
#pragma once

#include <cmath>
#include <cstdint>

#include "impls/attnres/rank_exchange.cuh"
#include "impls/attnres_phase1_bwd/bulk_operands.cuh"
#include "impls/attnres_phase1_bwd/bulk_ring.cuh"
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

/// Where the weights of a pair lie: [padded, 4, 2, queries / 4] floats of a set, of source n and the query
/// that is row u of lanes t (RightRows) its weight at (n, t, 0, u) and its logit's gradient times r at
/// (n, t, 1, u).
template <int kQueries>
struct WeightPlaces {
  static constexpr int kUnits = kQueries / 4;
  static constexpr int kSourceFloats = 2 * kQueries;

  __device__ static constexpr int lane(int n, int t) { return n * kSourceFloats + 2 * kUnits * t; }
  __device__ static constexpr int weight(int n, int s) {
    return lane(n, RightRows<kUnits>::lane(s)) + RightRows<kUnits>::unit(s);
  }
  __device__ static constexpr int gradient(int n, int s) { return weight(n, s) + kUnits; }
};

/// One pass of a token. Lane l has sources l mod width and, with kRounds = 2, the 32nd after it, of the
/// query l / width of the pass.
template <int kQueries, int kRounds>
class WeightPass {
 public:
  __device__ WeightPass(const BulkArguments& p, char* memory, int pass, int lane)
      : p_(p), memory_(memory), pass_(pass), lane_(lane) {}

  /// What comes in for the normaliser of the lane's query.
  __device__ float load_dlse(std::int64_t token) const {
    const int s = query(lane_);
    return p_.dlse && s < p_.S ? p_.dlse[s * p_.tokens + token] : 0.0f;
  }

  /// Weights and norms of set number mod 2, where `number` counts the CTA's tokens.
  __device__ void find(float dlse, int number) const {
    const int s = query(lane_);
    const int width = 1 << p_.lanes.width_log2;
    float sums[3][kRounds];  // products of the query, of its dout, squares
    add_sums(number, sums);

    float r[kRounds];
    float logit[kRounds];
    bool exists[kRounds];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      exists[i] = s < p_.S && source(lane_, i) < p_.N;
      r[i] = rsqrtf(sums[2][i] * p_.inverse_width + p_.eps);
      logit[i] = sums[0][i] * r[i];
      if (exists[i]) largest = fmaxf(largest, logit[i]);
    }
    largest = over_lanes(largest, 1, width, Max{});
    float weight[kRounds];
    float sum = 0;
    float mean = 0;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      weight[i] = exists[i] ? __expf(logit[i] - largest) : 0.0f;
      sum += weight[i];
      mean += exists[i] ? weight[i] * sums[1][i] : 0.0f;
    }
    for (int distance = 1; distance < width; distance *= 2) {  // both at a time
      const float more = __shfl_xor_sync(0xffffffffu, sum, distance);
      mean += __shfl_xor_sync(0xffffffffu, mean, distance);
      sum += more;
    }
    const float scale = __fdividef(1.0f, sum);
    mean *= scale;
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      // Of one source the output is the source: no rounding may leave its logit a gradient.
      const float centred = p_.N == 1 ? 0.0f : sums[1][i] - mean;
      const float w = exists[i] ? weight[i] * scale : 0.0f;
      const float g =
          exists[i] ? w * (centred + dlse) : 0.0f;  // without a query the mean is no number
      const float back = g * logit[i] * r[i] * r[i] * p_.inverse_width;
      store(number % 2, i, exists[i], w, g * r[i], over_lanes(back, width, 32, Sum{}));
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
    const char* from = memory_ + p_.memory.sums + 4 * (row * p_.memory.padded + n);
    float sum = 0;
#pragma unroll
    for (int warp = 0; warp < kProductWarps; ++warp, from += p_.memory.warp_sums)
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
    // Else what the loops over ranks need is found before the loop over tokens, in registers of all layouts.
    int ranks = p_.ranks;
    asm volatile("" : "+r"(ranks));
    // The barriers of the exchange are the last ones.
    auto* barriers =
        reinterpret_cast<std::uint64_t*>(memory_ + p_.memory.barriers) + 2 * p_.stages + 2;
    float* slots =
        reinterpret_cast<float*>(memory_ + p_.memory.exchange) + pass_ * 2 * ranks * kPassSums;
    const attnres::RankExchange exchange(
        slots, *reinterpret_cast<std::uint64_t(*)[2]>(barriers + 2 * pass_), ranks, 3 * kLanes,
        number);
    exchange.send({.index = 0, .warps = 1, .warp = 0, .lane = lane_, .thread = lane_},
                  [&](int i) { return add_warps(i / kLanes, i % 32, i % kLanes / 32); });
    exchange.wait();
#pragma unroll
    for (int i = 0; i < 3 * kRounds; ++i)
      sums[i / kRounds][i % kRounds] = exchange.total(32 * i + lane_);
  }

  __device__ void store(
      int set, int round, bool exists, float weight, float gradient, float back) const {
    using Places = WeightPlaces<kQueries>;
    const int n = source(lane_, round);
    const int s = query(lane_);
    if (exists) {
      float* to = reinterpret_cast<float*>(memory_ + p_.memory.weights) +
                  set * p_.memory.padded * Places::kSourceFloats;
      to[Places::weight(n, s)] = weight;
      to[Places::gradient(n, s)] = gradient;
    }
    if (lane_ >> p_.lanes.width_log2 == 0 && n < p_.N)
      reinterpret_cast<float*>(
          memory_ + p_.memory.norms)[(set * p_.lanes.passes(p_.S) + pass_) * p_.memory.padded + n] =
          back;
  }

  const BulkArguments& p_;
  char* memory_;
  int pass_, lane_;
};

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
