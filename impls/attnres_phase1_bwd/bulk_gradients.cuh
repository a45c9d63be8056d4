// Gradients of a token's sources at the columns of a warp, and what they give the queries', on tensor
// cores.
#pragma once

#include <cstdint>

#include "impls/arch/sm80/lane.cuh"
#include "impls/attnres/columns.cuh"
#include "impls/attnres_phase1_bwd/bulk_operands.cuh"
#include "impls/attnres_phase1_bwd/bulk_ring.cuh"
#include "impls/attnres_phase1_bwd/bulk_weights.cuh"

namespace attn::attnres_phase1_bwd {
namespace bulk {

/// kBlocks blocks of 32 columns: the queries there as right operands, and their gradient over all tokens so
/// far. A lane (g = lane / 4, t = lane mod 4) has of each block eight columns, 8 t and up, of the gradients
/// of source g of a tile and of queries g and g + 8.
template <class T, int kQueries, int kBlocks>
class WarpGradients {
 public:
  /// `warp` of those that have columns `range` of the rows.
  __device__ WarpGradients(
      const BulkArguments& p, const ColumnRange& range, const char* memory, int warp, int lane)
      : p_(p), memory_(memory), first_block_(warp * kBlocks), columns_(range.count) {
    if constexpr (!kHoldsQueries) return;
    const char* rows = memory + p.memory.queries + first_block_ * kBlockBytes + right_byte(lane);
#pragma unroll
    for (int block = 0; block < kHeldBlocks; ++block) {
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        const int s = RightRows<kUnits>::row(u, lane % 4);
        queries_[block][u] = {};
        if (s < p.S && has_block(block))
          queries_[block][u] = RightColumns::at(rows + s * p.memory.pitch + block * kBlockBytes);
      }
    }
  }

  /// The gradients of token `token`, whose rows are at `stage`, with the weights of set `set`.
  __device__ __forceinline__ void find(const char* stage, int set, std::int64_t token) {
    for (int first = 0; first < p_.N; first += kTileSources) {
      if (first + 4 < p_.N) {
        find_tile<2>(stage, set, token, first);
      } else {
        find_tile<1>(stage, set, token, first);
      }
    }
  }

  /// Writes the queries' gradient to split rows [S, 2, groups, 4], of which the CTA's columns begin at
  /// group `first`.
  __device__ void store(float* rows, int first) const {
    const int lane = sm80::lane_id();
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const int own = group(block, lane);
      if (own >= columns_) continue;
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        const int s = lane / 4 + 8 * half;
        if (s >= p_.S) continue;
        const float(&x)[8] = gradients_[block][half];
        float* row = rows + static_cast<std::int64_t>(s) * p_.D + 4 * (first + own);
        store_four(row, x[0], x[1], x[2], x[3]);
        store_four(row + p_.D / 2, x[4], x[5], x[6], x[7]);
      }
    }
  }

 private:
  using Places = WeightPlaces<kQueries>;
  static constexpr int kUnits = kQueries / 4;         // fours of queries, and products of a chain
  static constexpr int kHalves = (kQueries + 7) / 8;  // of a left operand's 16 rows of queries
  /// There are registers for up to eight queries; more are read from memory for every token.
  static constexpr bool kHoldsQueries = kHalves == 1;
  static constexpr int kHeldBlocks = kHoldsQueries ? kBlocks : 1;
  static_assert(sizeof(T) == 2, "rows are 16-bit");

  /// A lane's left operands of a tile.
  template <int kQuads>
  struct Left {
    float sources[2 * kUnits];       // of the sources' gradients: weights, then logits' gradients
    float queries[kQuads][kHalves];  // of the queries', a quad of sources each
    // What its norm takes off the lane's source, where that is its row of the quad; else 0: with the
    // sources as right operand, a diagonal matrix.
    float norms[kQuads];
  };

  /// Where a lane finds and leaves the first block's part of a tile.
  template <int kQuads>
  struct LanePlaces {
    int held;  // its source's part of what is added to, columns 8 t and up, from `memory` on; or -1
    char* to;  // the same of its gradient
    const char* dout[kUnits];
    int queries;  // bytes from a token's dout to the queries
    const char* quads[kQuads];
    int blocks;  // whose columns 8 t and up exist, of a source that exists
  };

  /// There are registers for the terms of up to eight queries' coefficients: those of more are found again
  /// for every block, which takes hiding from the compiler that they are the same.
  __device__ static float scarce(float x) {
    if constexpr (kHalves > 1) asm volatile("" : "+f"(x));
    return x;
  }
  __device__ static uint4 load(const char* from) { return *reinterpret_cast<const uint4*>(from); }
  /// Past the caches: nobody reads it soon.
  __device__ static void store_four(float* to, float x, float y, float z, float w) {
    __stcs(reinterpret_cast<float4*>(to), make_float4(x, y, z, w));
  }
  /// A lane's eight columns of a block, as a group of the CTA's.
  __device__ int group(int block, int lane) const { return 4 * (first_block_ + block) + lane % 4; }
  /// The warp has a column of it.
  __device__ bool has_block(int block) const { return 4 * (first_block_ + block) < columns_; }

  /// A tile of kQuads fours of sources.
  template <int kQuads>
  __device__ __forceinline__ void find_tile(const char* stage,
                                            int set,
                                            std::int64_t token,
                                            int first) {
    const int lane = sm80::lane_id() & 31;  // tells the compiler that it divides nothing negative
    const auto places = find_places<kQuads>(stage, token, first, lane);
    const auto left = load_left<kQuads>(set, first, lane);
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      if (!has_block(block)) break;
      float dv[8];
      multiply(left, places, block, dv);
      store_source(places.held, places.to, block < places.blocks, block, dv);
    }
  }

  /// Rows behind the last are the last: their coefficients are 0.
  template <int kQuads>
  __device__ __forceinline__ LanePlaces<kQuads> find_places(const char* stage,
                                                            std::int64_t token,
                                                            int first,
                                                            int lane) const {
    const int g = lane / 4;
    const int t = lane % 4;
    const int pitch = p_.memory.pitch;
    const int source = min(first + g, p_.N - 1);
    const char* rows = stage + first_block_ * kBlockBytes;
    LanePlaces<kQuads> places;
#pragma unroll
    for (int u = 0; u < kUnits; ++u)
      places.dout[u] =
          rows + (p_.N + min(RightRows<kUnits>::row(u, t), p_.S - 1)) * pitch + right_byte(lane);
    places.queries = static_cast<int>(memory_ - stage) + p_.memory.queries - p_.N * pitch;
#pragma unroll
    for (int q = 0; q < kQuads; ++q)
      places.quads[q] =
          rows + min(first + RightRows<kQuads>::row(q, t), p_.N - 1) * pitch + right_byte(lane);
    const SourceOutput output =
        reinterpret_cast<const SourceOutput*>(memory_ + p_.memory.outputs)[source];
    const int size = p_.dv.dtype == DType::kF32 ? 4 : 2;
    const int column = first_block_ * kBlockColumns + 8 * t;
    places.to = static_cast<char*>(output.row) + (token * p_.dv.stride + column) * size;
    places.held =
        output.held < 0 ? -1 : static_cast<int>(stage - memory_) + output.held + column * size;
    places.blocks = first + g < p_.N ? (columns_ - group(0, lane) + 3) / 4 : 0;
    return places;
  }

  /// The weights of a set, as operands.
  template <int kQuads>
  __device__ __forceinline__ Left<kQuads> load_left(int set, int first, int lane) const {
    const int g = lane / 4;
    const int t = lane % 4;
    const float* weights = reinterpret_cast<const float*>(memory_ + p_.memory.weights) +
                           set * p_.memory.padded * Places::kSourceFloats;
    const int source = min(first + g, p_.N - 1);
    Left<kQuads> left;
    attnres::load_together(weights + Places::lane(source, t), left.sources);
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      // Weights of sources behind the last are 0 up to the next four; queries behind the last get what
      // nobody asks for.
      const int n = min(first + RightRows<kQuads>::row(q, t), p_.memory.padded - 1);
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        const int s = min(g + 8 * half, kQueries - 1);
        left.queries[q][half] = weights[Places::gradient(n, s)];
      }
    }
    const int passes = p_.lanes.passes(p_.S);
    const float* norms = reinterpret_cast<const float*>(memory_ + p_.memory.norms) +
                         set * passes * p_.memory.padded + source;
    float norm = norms[0];
#pragma unroll 1
    for (int pass = 1; pass < passes; ++pass) norm += norms[pass * p_.memory.padded];
#pragma unroll
    for (int q = 0; q < kQuads; ++q)
      left.norms[q] = g == RightRows<kQuads>::row(q, t) ? -norm : 0.0f;
    return left;
  }

  /// Adds what the tile's sources give the queries' gradient in a block, and finds what dout, queries
  /// and the source itself give the lane's source there: two products at a time, each a short chain,
  /// then ordinary additions.
  template <int kQuads>
  __device__ __forceinline__ void multiply(const Left<kQuads>& left,
                                           const LanePlaces<kQuads>& places,
                                           int block,
                                           float (&dv)[8]) {
    RightColumns sources[kQuads];
#pragma unroll
    for (int q = 0; q < kQuads; ++q)
      sources[q] = RightColumns::at(places.quads[q] + block * kBlockBytes);
    RightColumns dout[kUnits];
    if constexpr (kHoldsQueries) {
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        dout[u] = RightColumns::at(places.dout[u] + block * kBlockBytes);
        // Else the compiler keeps them in fp32 over all tokens, for which there are no registers.
        queries_[block][u].make_opaque();
      }
    }
#pragma unroll
    for (int first = 0; first < kBlockProducts; first += 2) {
      std::uint32_t rows[2 * kUnits];  // fours of dout, then of queries
#pragma unroll
      for (int u = 0; u < kUnits; ++u) {
        if constexpr (kHoldsQueries) {
          rows[u] = dout[u].words[first / 2];
          rows[kUnits + u] = queries_[block][u].words[first / 2];
        } else {
          const char* from = places.dout[u] + block * kBlockBytes + 2 * first;
          rows[u] = *reinterpret_cast<const std::uint32_t*>(from);
          rows[kUnits + u] = *reinterpret_cast<const std::uint32_t*>(from + places.queries);
        }
      }
      float sums[2][4] = {};
      float products[2][4] = {};
      std::uint32_t words[kQuads];
#pragma unroll
      for (int q = 0; q < kQuads; ++q) words[q] = sources[q].words[first / 2];
      multiply_sources(left, words, sums, products);
#pragma unroll
      for (int i = 0; i < kUnits; ++i) {
        const Terms even = Terms::of(scarce(left.sources[2 * i]));
        const Terms odd = Terms::of(scarce(left.sources[2 * i + 1]));
#pragma unroll
        for (int j = 0; j < 2; ++j)
          sm80::mma_m16n8k8_tf32(sums[j], {even.high, even.low, odd.high, odd.low},
                                 element<T>(rows[2 * i], j), element<T>(rows[2 * i + 1], j));
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int at = first + j;
        dv[at] = sums[j][0] + sums[j][2];
        dv[4 + at] = sums[j][1] + sums[j][3];
        if constexpr (kHalves == 1) {
          gradients_[block][0][at] += products[j][0] + products[j][2];
          gradients_[block][0][4 + at] += products[j][1] + products[j][3];
        } else {
#pragma unroll
          for (int half = 0; half < kHalves; ++half) {
            gradients_[block][half][at] += products[j][2 * half];
            gradients_[block][half][4 + at] += products[j][2 * half + 1];
          }
        }
      }
    }
  }

  /// The products with the tile's sources, of which `words` are a part: what their norms take off them,
  /// and what they give the queries' gradient: of up to eight queries both terms at a time, as of the
  /// norms, of more one after the other.
  template <int kQuads>
  __device__ static __forceinline__ void multiply_sources(const Left<kQuads>& left,
                                                          const std::uint32_t (&words)[kQuads],
                                                          float (&sums)[2][4],
                                                          float (&products)[2][4]) {
    std::uint32_t norms[2 * kQuads];
    std::uint32_t queries[kHalves][2 * kQuads];
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const Terms norm = Terms::of(scarce(left.norms[q]));
      const Terms lower = Terms::of(scarce(left.queries[q][0]));
      norms[2 * q] = norm.high, norms[2 * q + 1] = norm.low;
      queries[0][2 * q] = lower.high;
      if constexpr (kHalves == 1) {
        queries[0][2 * q + 1] = lower.low;
      } else {
        const Terms upper = Terms::of(scarce(left.queries[q][1]));
        queries[0][2 * q + 1] = upper.high;
        queries[1][2 * q] = lower.low, queries[1][2 * q + 1] = upper.low;
      }
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      std::uint32_t right[kQuads];
#pragma unroll
      for (int q = 0; q < kQuads; ++q) right[q] = element<T>(words[q], j);
      multiply_terms(sums[j], norms, right);
#pragma unroll
      for (int half = 0; half < kHalves; ++half) multiply_terms(products[j], queries[half], right);
    }
  }
  __device__ static void multiply_terms(float (&sums)[4],
                                        const std::uint32_t (&left)[2],
                                        const std::uint32_t (&right)[1]) {
    sm80::mma_m16n8k4_tf32(sums, left, right[0]);
  }
  __device__ static void multiply_terms(float (&sums)[4],
                                        const std::uint32_t (&left)[4],
                                        const std::uint32_t (&right)[2]) {
    sm80::mma_m16n8k8_tf32(sums, left, right[0], right[1]);
  }

  /// Adds what the source's plane holds, and writes what `exists`.
  __device__ __forceinline__ void store_source(
      int held_byte, char* first, bool exists, int block, float (&dv)[8]) const {
    if (p_.dv.dtype == DType::kF32) {
      constexpr int kBytes = 4 * kBlockColumns;
      if (held_byte >= 0) {
        const auto* held = reinterpret_cast<const float4*>(memory_ + held_byte + block * kBytes);
        const float4 low = held[0];
        const float4 high = held[1];
        dv[0] += low.x, dv[1] += low.y, dv[2] += low.z, dv[3] += low.w;
        dv[4] += high.x, dv[5] += high.y, dv[6] += high.z, dv[7] += high.w;
      }
      if (!exists) return;
      auto* to = reinterpret_cast<float*>(first + block * kBytes);
      store_four(to, dv[0], dv[1], dv[2], dv[3]);
      store_four(to + 4, dv[4], dv[5], dv[6], dv[7]);
    } else {
      if (held_byte >= 0) {
        float held[8];
        unpack_vector<T>(load(memory_ + held_byte + block * kBlockBytes), held);
#pragma unroll
        for (int i = 0; i < 8; ++i) dv[i] += held[i];
      }
      const uint4 packed = pack_vector<T>(dv);
      if (exists) __stcs(reinterpret_cast<uint4*>(first + block * kBlockBytes), packed);
    }
  }

  const BulkArguments& p_;
  const char* memory_;
  int first_block_;
  int columns_;  // groups of eight, of the CTA
  RightColumns queries_[kHeldBlocks][kUnits];
  float gradients_[kBlocks][kHalves][8] = {};
};

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
