// The loops behind TileKernels, written once over the vector width and instantiated for AVX-512,
// AVX2 and the compiler's baseline.
//
// Queries lie along the vector lanes: a row's maximum and sum need no shuffles, and keys are read
// in their own layout, one broadcast element at a time. The score micro-kernel holds 2 vectors of
// queries x kKeys keys in registers (2 x 6 of 16 registers, 2 x 12 of 32), the register blocking of
// Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.
#include "impls/colreduce/cpu_fused_tiles.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "impls/common/cpu_simd.h"

namespace attn::colreduce {
namespace {

template <int kLanes, int kKeys>
struct Tiles {
  static_assert(kKeyTile % kKeys == 0, "a key tile is a whole number of micro-tiles");
  static constexpr int kPanelRows = 2 * kLanes;
  using V = simd::Vec<kLanes>;
  using Float = typename V::Float;
  using Int = typename V::Int;

  static ATTN_ALWAYS_INLINE void pack_queries(
      RowBlock block, HeadRows rows, std::int64_t d0, int depth, float* q) {
    alignas(64) float row[kMaxDepth];
    for (int r = 0; r < block.stride; ++r) {
      float* to = q + (r / kPanelRows) * depth * kPanelRows + r % kPanelRows;
      if (r < block.rows) {
        simd::widen<kLanes>(row, rows.at(block.m0 + r, d0), rows.dtype, depth);
        for (int d = 0; d < depth; ++d) to[d * kPanelRows] = row[d];
      } else {
        for (int d = 0; d < depth; ++d) to[d * kPanelRows] = 0;
      }
    }
  }

  static ATTN_ALWAYS_INLINE void pack_keys(
      KeyRange keys, HeadRows rows, std::int64_t d0, int depth, float* k) {
    int n = 0;
    for (; n < keys.count; ++n)
      simd::widen<kLanes>(k + n * kKeyStride, rows.at(keys.n0 + n, d0), rows.dtype, depth);
    for (; n % kKeys != 0; ++n) std::fill_n(k + n * kKeyStride, depth, 0.0f);
  }

  /// One micro-tile: s [kKeys, stride] over kPanelRows queries.
  static ATTN_ALWAYS_INLINE void score_micro_tile(const float* q,
                                                  const float* k,
                                                  int depth,
                                                  bool accumulate,
                                                  float factor,
                                                  float* s,
                                                  int stride) {
    Float low[kKeys] = {};
    Float high[kKeys] = {};
    for (int d = 0; d < depth; ++d) {
      Float q_low, q_high;
      V::load(q_low, q + d * kPanelRows);
      V::load(q_high, q + d * kPanelRows + kLanes);
#pragma GCC unroll 12
      for (int j = 0; j < kKeys; ++j) {
        const float key = k[j * kKeyStride + d];
        low[j] += q_low * key;
        high[j] += q_high * key;
      }
    }
    // One pointer that moves on: kKeys offsets held in registers would push vectors out of theirs.
#pragma GCC unroll 12
    for (int j = 0; j < kKeys; ++j, s += stride) {
      if (accumulate) {
        Float before;
        V::load(before, s);
        low[j] += before;
        V::load(before, s + kLanes);
        high[j] += before;
      }
      V::store(s, low[j] * factor);
      V::store(s + kLanes, high[j] * factor);
    }
  }

  static ATTN_ALWAYS_INLINE void score(RowBlock block,
                                       KeyRange keys,
                                       const float* q,
                                       const float* k,
                                       int depth,
                                       bool accumulate,
                                       float factor,
                                       float* s) {
    for (int row = 0; row < block.rows; row += kPanelRows) {
      const int begin = block.keys_begin(row, keys.n0, keys.count) / kKeys * kKeys;
      const int end = block.keys_end(row + kPanelRows - 1, keys.n0, keys.count);
      for (int n = begin; n < end; n += kKeys)
        score_micro_tile(q + row * depth, k + n * kKeyStride, depth, accumulate, factor,
                         s + n * block.stride + row, block.stride);
    }
  }

  /// Lanes of the vector at `row` that see key n: n - diagonal <= m <= n - left.
  static ATTN_ALWAYS_INLINE void seen_lanes(Int& lanes, RowBlock block, int row, std::int64_t n) {
    const auto lane_of = [&](std::int64_t m) {
      return static_cast<std::int32_t>(std::clamp<std::int64_t>(m - block.m0 - row, 0, kLanes));
    };
    V::lane_index(lanes);
    lanes =
        (lanes >= lane_of(n - block.mask.diagonal)) & (lanes < lane_of(n - block.mask.left + 1));
  }

  /// Keys of a tile that matter to the vector at `row`: [begin, end) are seen by some of its lanes,
  /// of those [all_begin, all_end) by all.
  struct Seen {
    int begin, all_begin, all_end, end;
  };
  static ATTN_ALWAYS_INLINE Seen seen_keys(RowBlock block, KeyRange keys, int row) {
    const int last = row + kLanes - 1;
    return {block.keys_begin(row, keys.n0, keys.count), block.keys_begin(last, keys.n0, keys.count),
            block.keys_end(row, keys.n0, keys.count), block.keys_end(last, keys.n0, keys.count)};
  }

  static ATTN_ALWAYS_INLINE void soft_cap(RowBlock block, KeyRange keys, float cap, float* s) {
    for (int row = 0; row < block.rows; row += kLanes) {
      const Seen seen = seen_keys(block, keys, row);
      for (int n = seen.begin; n < seen.end; ++n) {
        Float x;
        V::load(x, s + n * block.stride + row);
        simd::tanh<kLanes>(x);
        V::store(s + n * block.stride + row, x * cap);
      }
    }
  }

  static ATTN_ALWAYS_INLINE void find_max(RowBlock block,
                                          KeyRange keys,
                                          const float* s,
                                          float* row_max) {
    for (int row = 0; row < block.rows; row += kLanes) {
      const Seen seen = seen_keys(block, keys, row);
      Float high;
      V::load(high, row_max + row);
      for (int n = seen.begin; n < seen.end; ++n) {
        Float x;
        V::load(x, s + n * block.stride + row);
        Int larger = x > high;
        if (n < seen.all_begin || n >= seen.all_end) {
          Int lanes;
          seen_lanes(lanes, block, row, keys.n0 + n);
          larger &= lanes;
        }
        high = larger ? x : high;
      }
      V::store(row_max + row, high);
    }
  }

  static ATTN_ALWAYS_INLINE void exponentiate(
      RowBlock block, KeyRange keys, const float* row_max, float* s, float* row_sum) {
    for (int row = 0; row < block.rows; row += kLanes) {
      const Seen seen = seen_keys(block, keys, row);
      Float shift;
      V::load(shift, row_max + row);
      // No visible score above -inf yet: weights are 0, where -inf - -inf would be NaN.
      shift = shift == -__builtin_inff() ? Float{} : shift;
      Float sum = {};
      for (int n = seen.begin; n < seen.end; ++n) {
        Float x;
        V::load(x, s + n * block.stride + row);
        x -= shift;
        simd::exp2_nonpositive<kLanes>(x);
        if (n < seen.all_begin || n >= seen.all_end) {
          Int lanes;
          seen_lanes(lanes, block, row, keys.n0 + n);
          x = lanes ? x : Float{};
        }
        sum += x;
        V::store(s + n * block.stride + row, x);
      }
      Float total;
      V::load(total, row_sum + row);
      V::store(row_sum + row, total + sum);
    }
  }

  static ATTN_ALWAYS_INLINE float reduce_key(
      const float* s, const float* inverse_sum, int begin, int end, bool is_max) {
    Float sum = {};
    Int largest = {};
    const int last = (end + kLanes - 1) / kLanes * kLanes;
    for (int row = begin / kLanes * kLanes; row < last; row += kLanes) {
      Float p, factor;
      V::load(p, s + row);
      V::load(factor, inverse_sum + row);
      p *= factor;
      if (row < begin || row + kLanes > end) {  // a select: 0 times an unseen row's NaN is NaN
        Int lane;
        V::lane_index(lane);
        p = (lane >= begin - row) & (lane < end - row) ? p : Float{};
      }
      sum += p;
      if (is_max) {
        // Weights are not negative: their bits order as integers, with every NaN above.
        const Int bits = __builtin_bit_cast(Int, p) & 0x7fffffff;
        largest = bits > largest ? bits : largest;
      }
    }
    if (!is_max) return simd::sum_lanes<kLanes>(sum);
    std::int32_t lanes[kLanes];
    std::memcpy(lanes, &largest, sizeof lanes);
    return std::bit_cast<float>(*std::max_element(lanes, lanes + kLanes));
  }

  static ATTN_ALWAYS_INLINE void reduce(RowBlock block,
                                        KeyRange keys,
                                        const float* s,
                                        const float* inverse_sum,
                                        bool is_max,
                                        float* column) {
    for (int n = 0; n < keys.count; ++n) {
      const auto row_of = [&](std::int64_t m) {
        return static_cast<int>(std::clamp<std::int64_t>(m - block.m0, 0, block.rows));
      };
      const int begin = row_of(block.mask.query_begin(keys.n0 + n));
      const int end = row_of(block.mask.query_end(keys.n0 + n));
      column[n] = reduce_key(s + n * block.stride, inverse_sum, begin, end, is_max);
    }
  }
};

// One wrapper per instruction set: it alone carries the target, and everything above is inlined
// into it. Features are named one by one: naming an architecture would clash with -march=native.
template <auto kFunction, class... Args>
void run_baseline(Args... args) {
  kFunction(args...);
}
#if defined(__x86_64__)
template <auto kFunction, class... Args>
__attribute__((target("avx2,fma"))) void run_avx2(Args... args) {
  kFunction(args...);
}
template <auto kFunction, class... Args>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void run_avx512(
    Args... args) {
  kFunction(args...);
}
#endif

}  // namespace

std::vector<TileKernels> available_kernels() {
#define ATTN_TILE_KERNELS(name, T, run)                                         \
  {name,          T::kPanelRows,    run<T::pack_queries>, run<T::pack_keys>,    \
   run<T::score>, run<T::soft_cap>, run<T::find_max>,     run<T::exponentiate>, \
   run<T::reduce>}
  std::vector<TileKernels> list;
#if defined(__x86_64__)
  using Avx512 = Tiles<16, 12>;
  using Avx2 = Tiles<8, 6>;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    list.push_back(ATTN_TILE_KERNELS("avx512", Avx512, run_avx512));
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    list.push_back(ATTN_TILE_KERNELS("avx2", Avx2, run_avx2));
#endif
  using Baseline = Tiles<4, 6>;
  list.push_back(ATTN_TILE_KERNELS("baseline", Baseline, run_baseline));
#undef ATTN_TILE_KERNELS
  return list;
}

}  // namespace attn::colreduce
