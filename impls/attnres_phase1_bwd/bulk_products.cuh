// Inner products of a token on tensor cores: every source with the queries, with their dout and with
// itself.
#pragma once

#include <cstdint>

#include "impls/attnres/depth_products.cuh"
#include "impls/attnres_phase1_bwd/bulk_sm90.h"

namespace attn::attnres_phase1_bwd {
namespace bulk {

using attnres::Left;

/// A warp's products over its steps of 32 columns. A step of the sources is read once for all of them.
template <class T, int kQueries>
class TokenProducts {
 public:
  /// Of the rows at addresses `stage` (N sources, S dout) and `queries`, over steps `own`.
  __device__ TokenProducts(const BulkArguments& p,
                           std::uint32_t stage,
                           std::uint32_t queries,
                           const attnres::StepRange& own,
                           int lane)
      : p_(p),
        sources_{stage, p.memory.pitch, p.N},
        offset_(static_cast<std::uint32_t>(own.first * kStepBytes)),
        steps_(own.count),
        lane_(lane) {
    const attnres::StagedRows dout{stage + static_cast<std::uint32_t>(p.N * p.memory.pitch),
                                   p.memory.pitch, p.S};
    const attnres::StagedRows rows{queries, p.memory.pitch, p.S};
    queries_ = left_address(rows);
    dout_ = left_address(dout);
  }

  /// The products with sources [column, column + 8), for `store`.
  __device__ __forceinline__ void multiply(int column) {
    total_ = {};
    const std::uint32_t right = offset_ + attnres::lane_address(sources_, column, lane_);
    for (int begin = 0; begin < steps_; begin += attnres::kChainSteps) {
      Sums sums[2] = {};  // chains of dependent products
      const int end = min(steps_, begin + attnres::kChainSteps);
#pragma unroll kTogether
      for (int step = begin; step < end; ++step) {
        const auto at = static_cast<std::uint32_t>(step * kStepBytes);
        add_step(queries_ + at, dout_ + at, right + at, sums);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        total_.logits[i] += sums[0].logits[i] + sums[1].logits[i];
        total_.products[i] += sums[0].products[i] + sums[1].products[i];
        if constexpr (kTiles == 2) total_.squares[i] += sums[0].squares[i] + sums[1].squares[i];
      }
    }
  }

  /// to [2 S + 1, padded]: products of queries, squares, products of dout.
  __device__ void store(int column, float* to) const {
    const int g = lane_ / 4;
    const int t = lane_ % 4;
    const int pitch = p_.memory.padded;
    if (column + 2 * t >= pitch) return;  // padded to fours: a pair exists or does not
    float* at = to + column + 2 * t;
    float* products = at + (p_.S + 1) * pitch;
    if (g < p_.S) {
      store_pair(at + g * pitch, total_.logits[0], total_.logits[1]);
      store_pair(products + g * pitch, total_.products[0], total_.products[1]);
    }
    if (kTiles == 2 && g + 8 < p_.S) {
      store_pair(at + (g + 8) * pitch, total_.logits[2], total_.logits[3]);
      store_pair(products + (g + 8) * pitch, total_.products[2], total_.products[3]);
    }
    if (t == g / 2) {  // source g with itself
      const int half = g % 2;
      const float square = kTiles == 1 ? (half == 0 ? total_.logits[2] : total_.logits[3])
                                       : (half == 0 ? total_.squares[0] : total_.squares[1]);
      at[p_.S * pitch + half] = square;
    }
  }

 private:
  static constexpr int kStepBytes = 2 * attnres::kStepColumns;
  static constexpr int kTiles = (kQueries + 7) / 8;  // of the left operand's rows
  static constexpr int kTogether =
      kTiles == 1 ? 4 : 2;  // steps whose loads there are registers for
  static_assert(kTiles <= 2, "a left operand has sixteen rows");

  struct Sums {
    float logits[4];  // and squares, of up to eight queries
    float products[4];
    float squares[4];
  };

  __device__ std::uint32_t left_address(const attnres::StagedRows& rows) const {
    return offset_ + (kTiles == 1 ? attnres::lane_address(rows, 0, lane_)
                                  : attnres::lane_address_16(rows, 0, lane_));
  }
  __device__ static void store_pair(float* to, float x, float y) {
    *reinterpret_cast<float2*>(to) = make_float2(x, y);
  }

  /// A step: two products deep.
  __device__ static __forceinline__ void add_step(std::uint32_t queries,
                                                  std::uint32_t dout,
                                                  std::uint32_t right,
                                                  Sums (&sums)[2]) {
    std::uint32_t b[4];
    std::uint32_t q[4];
    std::uint32_t a[4];
    sm80::ldmatrix_x4(b, right);
    sm80::ldmatrix_x4(q, queries);
    sm80::ldmatrix_x4(a, dout);
    if constexpr (kTiles == 1) {
      sm80::mma_m16n8k16<T>(sums[0].logits, {q[0], b[0], q[1], b[1]}, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[1].logits, {q[2], b[2], q[3], b[3]}, b[2], b[3]);
      sm80::mma_m16n8k16<T>(sums[0].products, {a[0], 0, a[1], 0}, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[1].products, {a[2], 0, a[3], 0}, b[2], b[3]);
    } else {
      sm80::mma_m16n8k16<T>(sums[0].logits, q, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[0].products, a, b[0], b[1]);
      sm80::ldmatrix_x4(q, queries + kStepBytes / 2);
      sm80::ldmatrix_x4(a, dout + kStepBytes / 2);
      sm80::mma_m16n8k16<T>(sums[1].logits, q, b[2], b[3]);
      sm80::mma_m16n8k16<T>(sums[1].products, a, b[2], b[3]);
      sm80::mma_m16n8k16<T>(sums[0].squares, {b[0], 0, b[1], 0}, b[0], b[1]);
      sm80::mma_m16n8k16<T>(sums[1].squares, {b[2], 0, b[3], 0}, b[2], b[3]);
    }
  }

  const BulkArguments& p_;
  attnres::StagedRows sources_;
  std::uint32_t offset_, queries_, dout_;
  int steps_, lane_;
  Sums total_;
};

}  // namespace bulk
}  // namespace attn::attnres_phase1_bwd
