// Gradients of a token's sources at the columns of a thread, and what they give the queries'.
#pragma once

#include <cstdint>

#include "impls/attnres/columns.cuh"
#include "impls/attnres_phase1_bwd/bulk_sm90.h"
#include "impls/common/vector_io.cuh"

namespace attn::attnres_phase1_bwd {
namespace bulk {

/// kColumns columns: the queries there, and their gradient over all tokens so far.
template <class T, int kQueries, int kColumns>
class ColumnGradients {
 public:
  /// Column `column` of the CTA's, which begin at `first` of a whole row. All calls name the same.
  __device__ ColumnGradients(const BulkArguments& p, int first, int column) : first_(first) {
#pragma unroll
    for (int s = 0; s < kQueries; ++s) {
      const auto* row = static_cast<const T*>(p.wt) + static_cast<std::int64_t>(s) * p.D;
#pragma unroll
      for (int i = 0; i < kWords; ++i) queries_[s][i] = 0;
      if (s < p.S) load_words(row + first + column, queries_[s]);
    }
  }

  /// The gradients of token `token`, whose rows are at `stage`, with the scalars of set `set`.
  __device__ __forceinline__ void find(const BulkArguments& p,
                                       const char* memory,
                                       const char* stage,
                                       int column,
                                       int set,
                                       std::int64_t token) {
    const auto* weights = reinterpret_cast<const float*>(memory + p.memory.weights) +
                          set * p.tiles.count * kTileFloats;
    for (int tile = 0; tile < p.tiles.count; ++tile, weights += kTileFloats) {
      float k[kTileSources];
      add_norms(p, memory, set, tile, k);
      const int source = p.tiles.first(tile);
      switch (p.tiles.size(tile)) {
        case 4:
          find_tile<4>(p, stage, weights, k, source, column, token);
          break;
        case 3:
          find_tile<3>(p, stage, weights, k, source, column, token);
          break;
        case 2:
          find_tile<2>(p, stage, weights, k, source, column, token);
          break;
        default:
          find_tile<1>(p, stage, weights, k, source, column, token);
      }
    }
  }

  /// Writes the queries' gradient to split rows [S, 2, groups, 4].
  __device__ void store(const BulkArguments& p, int column, float* rows) const {
    const int at = first_ + column;
    float* to = rows + (at / 4 % 2 * (p.D / 8) + at / 8) * 4 + at % 4;
#pragma unroll
    for (int s = 0; s < kQueries; ++s) {
      if (s < p.S) store_floats(to + static_cast<std::int64_t>(s) * p.D, gradients_[s]);
    }
  }

 private:
  static constexpr int kWords = kColumns / 2;
  /// The compiler keeps queries in fp32 over all tokens. There are registers for half of many: the others
  /// are opaque to it.
  static constexpr int kUnpacked = kQueries * kColumns > 16 ? kQueries / 2 : kQueries;
  static constexpr int kTileFloats = kQueries * 2 * kTileSources;
  static_assert(kColumns == 2 || kColumns == 4, "one access has four or eight bytes");

  __device__ static void load_words(const T* from, std::uint32_t (&words)[kWords]) {
    if constexpr (kWords == 2) {
      const uint2 pair = *reinterpret_cast<const uint2*>(from);
      words[0] = pair.x, words[1] = pair.y;
    } else {
      words[0] = *reinterpret_cast<const std::uint32_t*>(from);
    }
  }
  __device__ static void unpack(const std::uint32_t (&words)[kWords], float (&x)[kColumns]) {
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const float2 pair = unpack_pair<T>(words[i]);
      x[2 * i] = pair.x, x[2 * i + 1] = pair.y;
    }
  }
  __device__ static void load(const char* from, float (&x)[kColumns]) {
    std::uint32_t words[kWords];
    load_words(reinterpret_cast<const T*>(from), words);
    unpack(words, x);
  }
  /// Past the caches: nobody reads it soon.
  __device__ static void store_floats(float* to, const float (&x)[kColumns]) {
    if constexpr (kColumns == 4) {
      __stcs(reinterpret_cast<float4*>(to), make_float4(x[0], x[1], x[2], x[3]));
    } else {
      __stcs(reinterpret_cast<float2*>(to), make_float2(x[0], x[1]));
    }
  }
  __device__ static void store_rounded(T* to, const float (&x)[kColumns]) {
    if constexpr (kColumns == 4) {
      __stcs(reinterpret_cast<uint2*>(to),
             make_uint2(pack_pair<T>(x[0], x[1]), pack_pair<T>(x[2], x[3])));
    } else {
      __stcs(reinterpret_cast<unsigned*>(to), pack_pair<T>(x[0], x[1]));
    }
  }

  /// What the norms of a tile's sources give back, from all passes in order.
  __device__ static void add_norms(
      const BulkArguments& p, const char* memory, int set, int tile, float (&k)[kTileSources]) {
    const int passes = p.lanes.passes(p.S);
    const float* from = reinterpret_cast<const float*>(memory + p.memory.norms) +
                        (set * passes * p.tiles.count + tile) * kTileSources;
    attnres::load_together(from, k);
#pragma unroll 1
    for (int pass = 1; pass < passes; ++pass) {
      float more[kTileSources];
      attnres::load_together(from + pass * p.tiles.count * kTileSources, more);
#pragma unroll
      for (int n = 0; n < kTileSources; ++n) k[n] += more[n];
    }
  }

  /// Of kSources sources from `source` on.
  template <int kSources>
  __device__ __forceinline__ void find_tile(const BulkArguments& p,
                                            const char* stage,
                                            const float* weights,
                                            const float (&k)[kTileSources],
                                            int source,
                                            int column,
                                            std::int64_t token) {
    const char* row = stage + static_cast<int>(sizeof(T)) * column;
    float x[kSources][kColumns];
    float dv[kSources][kColumns];
#pragma unroll
    for (int n = 0; n < kSources; ++n) {
      load(row + (source + n) * p.memory.pitch, x[n]);
#pragma unroll
      for (int i = 0; i < kColumns; ++i) dv[n][i] = -k[n] * x[n][i];
    }
    const char* dout = row + p.N * p.memory.pitch;
#pragma unroll
    for (int s = 0; s < kQueries; ++s, dout += p.memory.pitch) {
      float direct[kColumns];
      float query[kColumns];
      float w[kTileSources];
      float gr[kTileSources];
      load(dout, direct);
      if (s >= kUnpacked) {
#pragma unroll
        for (int i = 0; i < kWords; ++i) asm volatile("" : "+r"(queries_[s][i]));
      }
      unpack(queries_[s], query);
      attnres::load_together(weights + s * 2 * kTileSources, w);
      attnres::load_together(weights + (2 * s + 1) * kTileSources, gr);
#pragma unroll
      for (int n = 0; n < kSources; ++n) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i) {
          dv[n][i] += w[n] * direct[i];
          dv[n][i] += gr[n] * query[i];
          gradients_[s][i] += gr[n] * x[n][i];
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kSources; ++n) store_source(p, stage, source + n, column, token, dv[n]);
  }

  /// Adds what is held, and writes.
  __device__ __forceinline__ void store_source(const BulkArguments& p,
                                               const char* stage,
                                               int n,
                                               int column,
                                               std::int64_t token,
                                               float (&dv)[kColumns]) const {
    const bool wide = p.dv.dtype == DType::kF32;
    const int held_row = p.held_row[n];
    if (held_row >= 0) {
      const char* from = stage + p.memory.held + held_row * p.memory.held_pitch;
      float held[kColumns];
      if (wide) {
#pragma unroll
        for (int i = 0; i < kColumns; ++i)
          held[i] = reinterpret_cast<const float*>(from)[column + i];
      } else {
        load(from + static_cast<int>(sizeof(T)) * column, held);
      }
#pragma unroll
      for (int i = 0; i < kColumns; ++i) dv[i] += held[i];
    }
    const std::int64_t at = token * p.dv.stride + first_ + column;
    if (wide) {
      store_floats(static_cast<float*>(p.dv.data[n]) + at, dv);
    } else {
      store_rounded(static_cast<T*>(p.dv.data[n]) + at, dv);
    }
  }

  int first_;
  std::uint32_t queries_[kQueries][kWords];
  float gradients_[kQueries][kColumns] = {};
};

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
